package engine

import (
	"context"
	"encoding/binary"
	"errors"
)

// StampLen is the length of a stamp in bytes: 8 bytes commit version, 2 bytes batch order (always 0) and 2 bytes
// index, all big-endian, so that byte order is commit order. It is the layout of FoundationDB's tuple versionstamp.
const StampLen = 12

// Stamp identifies one mutating request of one commit: the commit's version and the request's index within it. On a
// dense engine every request has its own version in its domain (see Domains), and the index is 0.
type Stamp struct {
	Version uint64
	Index   uint16
}

// Append appends the 12 bytes of s to b.
func (s Stamp) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.Version)
	b = append(b, 0, 0)
	return binary.BigEndian.AppendUint16(b, s.Index)
}

// Compare orders stamps as their bytes do.
func (s Stamp) Compare(o Stamp) int {
	switch {
	case s.Version < o.Version, s.Version == o.Version && s.Index < o.Index:
		return -1
	case s == o:
		return 0
	}
	return 1
}

// AppendCounter appends the value of a counter to b; see Txn.Add.
func AppendCounter(b []byte, v int64) []byte { return binary.LittleEndian.AppendUint64(b, uint64(v)) }

// ParseCounter reads the value of a counter's row. It returns 0 for nil, and false if the row is not a counter.
func ParseCounter(row []byte) (v int64, ok bool) {
	switch len(row) {
	case 0:
		return 0, row == nil
	case 8:
		return int64(binary.LittleEndian.Uint64(row)), true
	}
	return 0, false
}

// ErrBadStamp means that bytes are not a stamp: they are too short, or have a batch order other than 0.
var ErrBadStamp = errors.New("engine: not a stamp")

// ParseStamp reads the first 12 bytes of b.
func ParseStamp(b []byte) (Stamp, error) {
	if len(b) < StampLen || b[8] != 0 || b[9] != 0 {
		return Stamp{}, ErrBadStamp
	}
	return Stamp{Version: binary.BigEndian.Uint64(b), Index: binary.BigEndian.Uint16(b[10:])}, nil
}

// Store is an ordered map from byte keys to byte values with optimistic transactions, strictly serializable.
// All methods may be called from any goroutine.
type Store interface {
	// Snapshot opens a read-only view of the newest durable state: it includes every commit whose Wait has
	// returned before the call, and nothing that a crash could take back. The caller must Close it.
	// Errors: ErrUnavailable, ErrClosed, or the context's.
	Snapshot(ctx context.Context) (Snapshot, error)

	// Begin starts a transaction that reads at a version which includes every commit whose Wait has returned
	// before the call and, if Limits().Pipelined, every commit whose Commit has returned. The caller must
	// call Commit or Discard. Errors: as Snapshot.
	Begin(ctx context.Context) (Txn, error)

	// WaitChange returns nil when the durable value of key may differ from old (nil: absent), at once if it does
	// already. A spurious return is allowed. Errors: as Snapshot.
	WaitChange(ctx context.Context, key, old []byte) error

	// Limits returns the bounds of a transaction. It never changes while the store is open.
	Limits() Limits

	// Close waits for commits under way and releases the store. Snapshots and transactions must be closed first.
	Close() error
}

// RecentBeginner is implemented, besides Store, by an engine whose Begin must ask another process for the version to
// read at (FoundationDB: a round trip, and under load one of the longest parts of a commit).
type RecentBeginner interface {
	// BeginRecent is Begin at a recent version, which may be outdated. The version includes every commit of this Store
	// whose Wait has returned without an error before the call. It may lack what others have committed in the last
	// moments. Once the transaction has committed mutations, everything that it has read with a conflict is known to be
	// what a transaction that began after the call would have read. Nothing is known about what it has read without a
	// conflict, or if it mutates nothing. If ok is false there is no such version, and the caller must use Begin.
	// Errors: as Begin.
	BeginRecent(ctx context.Context) (txn Txn, ok bool, err error)
}

// RecentSnapshotter is implemented, besides Store, by an engine whose Snapshot must ask another process for the version
// to read at.
type RecentSnapshotter interface {
	// RecentSnapshot is Snapshot of a state that may be slightly outdated. It lacks nothing that this Store has shown
	// or done: its version is not below that of any earlier Reader, and it includes every commit of this Store whose
	// Wait has returned without an error before the call. Errors: as Snapshot.
	RecentSnapshot(ctx context.Context) (Snapshot, error)
}

// Frugal is what an engine with a cache of its own offers beside Store, for who reads much that nobody is likely to
// read again soon.
type Frugal interface {
	// Frugal keeps the cache from growing by more than so many bytes, whoever reads, until release, which is called
	// once and before the store is closed. What is read pushes out what the cache has.
	Frugal(growth int64) (release func())
}

// Limits are the bounds of an engine; zero means unbounded.
type Limits struct {
	// KeyBytes bounds the key of a mutation. The keys of reads and the bounds of ranges may be longer; such rows do not
	// exist.
	KeyBytes   int
	ValueBytes int // the value of a mutation
	// TxnBytes bounds the keys and values of a transaction's mutations, or with Structures the whole transaction.
	TxnBytes int
	// Structures means that the size of a transaction is computed as in package txnsize.
	Structures bool
	// RootBytes is the length of what the store puts before each key. KeyBytes does not include it. With Structures it
	// counts in TxnBytes each time that a key is named.
	RootBytes int
	// StampBytes is how much shorter a key or value with a stamp must be.
	StampBytes int

	// MaxStamps is how many stamps one commit may use. mvcc cuts its groups to that.
	MaxStamps int

	// Dense means that stamps number the requests of each domain without gaps: a commit that uses n stamps takes the
	// domain's next n versions, each with index 0. Otherwise one commit has one version and the indexes 0 … n-1.
	Dense bool

	// Versionstamps means that a stamp's version is the Version of the state that its commit made (FoundationDB). If a
	// Reader's Version is below a stamp that it reads, the database has been set back, as by a restore.
	Versionstamps bool

	// Pipelined means that a transaction begun after Commit has returned sees that commit, although Wait has not
	// returned yet; that Waits end in the order of commits; and that a failed Wait ends the store, so that no later
	// commit becomes durable either. A lane may then continue without waiting.
	Pipelined bool
}

// Reader reads at one version. Slices it returns are valid until the Reader is closed (Snapshot.Close, Txn.Discard,
// or the end of Wait; those of a transaction whose Commit failed are left to the garbage collector) and must not be
// changed. A Reader is used by one goroutine at a time.
type Reader interface {
	// Version identifies the state that is read. Two Readers of one Store with equal versions read the same state, and
	// a larger version is a later state (FoundationDB: the read version). It is not a revision.
	Version() uint64

	// Get returns the value of key, or nil if it is absent. A present empty value is non-nil.
	// Errors: ErrTooOld, ErrDamaged, ErrUnavailable, or the context's.
	Get(ctx context.Context, key []byte) ([]byte, error)

	// GetMany returns the values of keys, in their order, nil for absent ones; it reads in parallel where
	// the engine can. Errors: as Get.
	GetMany(ctx context.Context, keys [][]byte) ([][]byte, error)

	// Scan iterates over a range of keys. Errors come out of the iterator.
	Scan(ctx context.Context, r Range) Iterator
}

// Range is what a Scan visits: keys k with Begin <= k < End; a nil End means to the end of the store. An inverted
// range is empty, for ClearRange and AddReadConflict too.
type Range struct {
	Begin, End []byte
	Reverse    bool
	Limit      int  // greatest number of rows; 0: all
	KeysOnly   bool // values are not needed; engines may return nil
	// NoConflict leaves the range out of the transaction's read conflicts. The caller adds narrower ones itself.
	NoConflict bool
}

// OneKey reports whether Begin is the only key that the range can have.
func (r Range) OneKey() bool {
	n := len(r.Begin)
	return len(r.End) == n+1 && r.End[n] == 0 && string(r.End[:n]) == string(r.Begin)
}

// Iterator walks a Range. Its Key and Value are valid until the next call of Next or Close.
type Iterator interface {
	Next() bool
	Key() []byte
	Value() []byte
	Err() error // the first error; after ErrTooOld continue with a new Reader
	Close() error
}

// Snapshot is a Reader over durable state.
type Snapshot interface {
	Reader
	Close()
}

// Txn is an optimistic transaction. Every read adds a read conflict, unless Range.NoConflict is set. Mutations are kept
// until Commit. Reads do not see the transaction's own mutations, so read first and mutate last (on FoundationDB a
// range cannot be read after a stamped write). A Txn is used by one goroutine at a time. Mutations copy their
// arguments.
type Txn interface {
	Reader

	Set(key, value []byte)
	Clear(key []byte)
	ClearRange(begin, end []byte)

	// SetStampedKey sets a row whose key contains the commit's stamp in key[at:at+StampLen]. The caller puts the index
	// (Stamp.Index) into the last two of those bytes, and the engine fills in the rest. A Dense engine turns the index
	// into the version. SetStampedValue does the same within the value. Indexes must be below the n given to UseStamps.
	SetStampedKey(key []byte, at int, value []byte)
	SetStampedValue(key, value []byte, at int)

	// Add adds delta to a counter: a row whose value is an int64, 8 bytes little-endian, 0 if the row is absent
	// (FoundationDB's atomic ADD). It reads nothing, so transactions that add to the same counter do not conflict. It
	// may be called again for the same row, but nothing else in the transaction may change that row.
	Add(key []byte, delta int64)

	// UseStamps declares that the transaction's requests have the indexes 0 … n-1. If it is called again the largest
	// n counts: each part of a transaction may call it where parts share their indexes (see Part).
	UseStamps(n int)

	// AddReadConflict makes the commit fail with ErrConflict if a key k, begin <= k < end, has been written since
	// the transaction's read version.
	AddReadConflict(begin, end []byte)

	// AddWriteConflict acts as if every key k, begin <= k < end, had been written: transactions under way that have
	// read one of them with a conflict fail with ErrConflict. It does not count as a mutation.
	AddWriteConflict(begin, end []byte)

	// Commit starts the commit. After a nil error the commit is under way, and Wait tells its outcome. Errors that are
	// found before anything is sent: ErrConflict, ErrTooLarge, ErrTooOld, ErrNoSpace, ErrUnavailable. A transaction
	// without mutations commits too: its Wait returns when all that it has read is durable.
	Commit(ctx context.Context) (Pending, error)

	// Discard drops the transaction. After Commit it does nothing.
	Discard()
}

// Shrinker is implemented by the transactions of an engine with its own disk, besides Txn. Shrinks marks a transaction
// whose purpose is to free space, such as a delete or a revocation. The engine accepts it while others get ErrNoSpace,
// within the reserve that it keeps for such transactions.
type Shrinker interface{ Shrinks() }

// Vital is implemented by the transactions of such an engine, besides Shrinker. Vital marks a transaction that leads
// out of a full disk (a compaction and the removal of what it leaves), or without which the store cannot be opened or
// repaired (alarms, ownership). It may use a last reserve, which is kept when shrinking transactions are refused too.
type Vital interface{ Vital() }

// Forker is what the transactions of an engine offer beside Txn whose commits may be joined (package join).
type Forker interface {
	// Fork returns a transaction that reads at the same version, has read nothing with a conflict and changes
	// nothing. It is another's than the transaction itself, which must not be used during the call and has not been
	// committed. Errors: as Store.Begin.
	Fork(ctx context.Context) (Txn, error)
}

// Pending is a commit under way.
type Pending interface {
	// Wait returns when the commit is durable, with the stamp of index 0 (StampOf gives the others), or the zero Stamp
	// if the transaction used none. Wait is called exactly once. After ErrConflict, ErrTooLarge, ErrTooOld and
	// ErrNoSpace nothing has happened; an engine behind a network finds these only here. After ErrUnknownOutcome it is
	// settled whether the commit happened, but not known here: read a row that tells. Other errors: ErrUnavailable, and
	// the context's, which leaves the outcome unknown and possibly still open.
	Wait(ctx context.Context) (Stamp, error)
}

// StampOf returns the stamp of index i of a commit whose index 0 has the stamp first.
func (l Limits) StampOf(first Stamp, i int) Stamp {
	if l.Dense {
		return Stamp{Version: first.Version + uint64(i)}
	}
	return Stamp{Version: first.Version, Index: first.Index + uint16(i)}
}

// The classes of errors. Engines wrap them; ClassOf says what each means for the caller.
var (
	// ErrConflict: something that the transaction read was written meanwhile. Nothing happened; run it again.
	ErrConflict = errors.New("engine: conflict")
	// ErrUnknownOutcome: the commit happened or it did not, and it is no longer under way (FoundationDB's
	// commit_unknown_result, 1021).
	ErrUnknownOutcome = errors.New("engine: unknown commit outcome")
	// ErrTooOld: the read version is no longer available (transaction_too_old, 1007). Begin again.
	ErrTooOld = errors.New("engine: read version too old")
	// ErrTooLarge: a key, a value or the transaction is beyond Limits. Nothing happened.
	ErrTooLarge = errors.New("engine: too large")
	// ErrNoSpace: the disk is full or nearly so. Only transactions that do not grow the store are accepted.
	ErrNoSpace = errors.New("engine: no space left")
	// ErrUnavailable: the store cannot be reached or has failed; nothing is known to have happened.
	ErrUnavailable = errors.New("engine: unavailable")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("engine: closed")
)
