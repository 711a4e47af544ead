package pebble

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Sizes and limits that are not options.
const (
	// txnBytesMax bounds a transaction without FoundationDB's limits. Pebble's own bound for a batch is 4 GiB.
	txnBytesMax = 1<<31 - 1
	// counterLen is the length of a counter's row, which is never in a value file.
	counterLen = 8
	// stampsMaxDense is what the 2 bytes of a stamp's index can count.
	stampsMaxDense = 1 << 16
	// stampsMaxSparse is small, so that tests of the layers above see groups being cut.
	stampsMaxSparse = 32
	// sparseJumpMax bounds the random distance of two sparse versions: about a second of FoundationDB's.
	sparseJumpMax = 1 << 20

	// FoundationDB's limits (developer guide, "Known limitations").
	fdbTxnAge = 5 * time.Second

	// idleIteratorsMax bounds the iterators that a view keeps for the next scans.
	idleIteratorsMax = 16
	// getsBeforeIter is how many single lookups a view serves before it opens an iterator for them.
	getsBeforeIter = 16
	// batchRetainBytes bounds the buffer that a batch returns to the pool.
	batchRetainBytes = 4 << 20
)

// Options configure Open. The zero value is right for production.
type Options struct {
	// FDBLimits makes the store refuse what FoundationDB refuses: keys over 10 kB, values over 100 kB, and transactions
	// over 10 MB or older than TxnAge. It is for tests of the layers above.
	FDBLimits bool
	// TxnAge is the age at which a transaction or snapshot becomes ErrTooOld when FDBLimits is set. Default 5 s.
	TxnAge time.Duration

	// Sparse gives each commit one version, at a random distance from the previous one, as FoundationDB does. Seed
	// seeds the distances. A directory must always be opened with the same setting.
	Sparse bool
	Seed   uint64

	// NotPipelined makes transactions read durable commits only, as on FoundationDB, so that concurrent commits
	// conflict. It is for tests.
	NotPipelined bool

	// Scribble overwrites the values of a reader that has ended, so that tests detect any use of them.
	Scribble bool

	// WindowCommits and WindowBytes bound the write sets that are kept for open transactions. A transaction that is
	// older than the window gets ErrTooOld. Defaults: 16,384 commits and 256 MiB.
	WindowCommits int
	WindowBytes   int64

	// Adopt creates a ledger for a store of a release that kept none. The next start then notices what has been lost,
	// cut or swapped since, and that release refuses the directory. A new store always has a ledger.
	Adopt bool

	// ValueFiles lets the store keep large values in value files, where they are written once, instead of in
	// Pebble's logs and tables. A store, new or not, has them for good from the first start with ValueFiles on. It
	// then has a ledger too, and releases that know no value files refuse the directory.
	ValueFiles bool
	// NewValueFiles is ValueFiles for a store that this Open creates. Others stay as they are.
	NewValueFiles bool
	// ValueBytes is the length from which on values are put into value files by a store that has them. 0 means 32 KiB.
	// A negative number means that no more values are put there; those that are there are read.
	ValueBytes int
	// ValueFileBytes is the size at which a value file is filled and the next one begun. Default 64 MiB, on a small
	// disk and with a small QuotaBytes less.
	ValueFileBytes int64

	// FS is the file system; nil is the operating system's.
	FS vfs.FS
	// CacheBytes is the size of the block cache. Default 128 MiB.
	CacheBytes int64
	// MemTableBytes is the size at which a memtable is written out as a table; up to memTablesMax exist at a time.
	// Default 16 MiB, on a small disk less.
	MemTableBytes int64
	// QuotaBytes is the greatest size that the store is meant to have; 0 means unknown. It bounds the memtables, logs
	// and value files of a small store, and refuses nothing.
	QuotaBytes int64
	// ReserveBytes is the free space below which the store refuses growing transactions. 0 means 256 MiB, or an eighth
	// of the disk if that is less. A negative value turns the check off.
	ReserveBytes int64
	// BallastBytes is the size of a file that is removed when the disk is full. 0 means 64 MiB, or a 64th of the disk
	// if that is less. A negative value means no such file.
	BallastBytes int64

	// CloseWithin is how long Close waits for the disk. Values below the default of 1.8 s count as the default. Tests
	// of other things wait longer, because a loaded machine is slow.
	CloseWithin time.Duration

	// Logger receives the store's log lines. By default they are discarded.
	Logger *slog.Logger
	// Observe receives durations as they are measured.
	Observe Observer
	// OnNoSpace is called when the store starts (true) and stops (false) refusing growing transactions, perhaps before
	// Open returns. It is called from one goroutine at a time, must return quickly and must not call the store.
	OnNoSpace func(full bool)
	// OnDamage is called with an *engine.Damage whenever a read, or Pebble's own work, has met damaged data. It is
	// called from any goroutine, perhaps with locks held. It must return quickly and must not call the store.
	OnDamage func(err error)
	// OnFailure is called once, from any goroutine, when the store has failed for good. It must not call the store.
	OnFailure func(err error)
}

// Observer receives durations. Its functions may be nil. They are called from several goroutines and must be quick.
type Observer struct {
	// WALSync is the time of one sync of the write-ahead log: of the fdatasync(2), without the writes.
	WALSync func(time.Duration)
	// Commit is the time from Txn.Commit to durability.
	Commit func(time.Duration)
}

// EnsureDefaults sets the options that are zero to their defaults.
func (o *Options) EnsureDefaults() {
	if o.TxnAge == 0 {
		o.TxnAge = fdbTxnAge
	}
	if o.WindowCommits == 0 {
		o.WindowCommits = 1 << 14
	}
	if o.WindowBytes == 0 {
		o.WindowBytes = 256 << 20
	}
	if o.ValueBytes == 0 {
		o.ValueBytes = valueBytesMin
	}
	if o.ValueFileBytes == 0 {
		o.ValueFileBytes = valueFileMax
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 128 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe.WALSync == nil {
		o.Observe.WALSync = func(time.Duration) {}
	}
	if o.Observe.Commit == nil {
		o.Observe.Commit = func(time.Duration) {}
	}
	if o.OnNoSpace == nil {
		o.OnNoSpace = func(bool) {}
	}
	if o.OnDamage == nil {
		o.OnDamage = func(error) {}
	}
	if o.OnFailure == nil {
		o.OnFailure = func(error) {}
	}
}

// Validate checks the options after EnsureDefaults.
func (o *Options) Validate() error {
	switch {
	case o.TxnAge < 0:
		return fmt.Errorf("pebble: TxnAge %v is negative", o.TxnAge)
	case o.WindowCommits < 1 || o.WindowBytes < 1:
		return fmt.Errorf(
			"pebble: window of %d commits, %d bytes: both must be positive", o.WindowCommits, o.WindowBytes,
		)
	case o.ValueBytes > 0 && o.ValueBytes <= counterLen:
		return fmt.Errorf(
			"pebble: ValueBytes %d is not above %d, the length of a counter", o.ValueBytes, counterLen,
		)
	case o.ValueFileBytes < 1:
		return fmt.Errorf("pebble: ValueFileBytes %d is not positive", o.ValueFileBytes)
	case o.CacheBytes < 0:
		return fmt.Errorf("pebble: CacheBytes %d is negative", o.CacheBytes)
	case o.MemTableBytes < 1<<20 || o.MemTableBytes > 1<<30:
		return fmt.Errorf("pebble: MemTableBytes %d is not within 1 MiB … 1 GiB", o.MemTableBytes)
	}
	return nil
}
