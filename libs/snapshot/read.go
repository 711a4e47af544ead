package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

var (
	// ErrForeign: a file is not a snapshot of etcd.
	ErrForeign = errors.New("not a snapshot of etcd")
	// ErrDamaged: a file was a snapshot of etcd, but is damaged.
	ErrDamaged = errors.New("the snapshot is damaged")
	// ErrNoSum: a file does not end with a SHA-256. A copy of a data directory does not.
	ErrNoSum = errors.New("the file has no checksum: it is a copy of a data directory, or has been cut")
)

// sectorBytes divides the size of a file without a checksum.
const sectorBytes = 512

// ctxEvery is how many rows are read between two checks of the context.
const ctxEvery = 1024

// Reader reads a database file that anybody may have made.
type Reader struct {
	f      *os.File
	temp   bool // of TempFile
	db     *bolt.DB
	tx     *bolt.Tx
	events []byte // bucket
	sum    []byte // of the file, if it has been checked

	// Revision is the file's revision. Compact is its compact revision, or -1.
	Revision, Compact int64
	// Superseded says that the file may have versions below the compact revision that were superseded: etcd had not
	// removed them yet.
	Superseded bool
	// Since is the revision since which the file has all changes, and nothing else; 0: it is a whole snapshot.
	Since int64
	// Version is the storage version; "": before 3.6.
	Version string
	// Size is the size of the file in bytes.
	Size int64
}

// Open opens a file, and checks its checksum unless skipHashCheck is set. The caller closes the Reader. Errors:
// ErrForeign, ErrDamaged, ErrNoSum, those of the file system, the context's.
func Open(ctx context.Context, path string, skipHashCheck bool) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return open(ctx, &Reader{f: f}, skipHashCheck)
}

// open opens the file of a Reader. If it fails, it closes the file.
func open(ctx context.Context, r *Reader, skipHashCheck bool) (_ *Reader, err error) {
	r.Compact = -1
	if r.Size, r.sum, err = check(ctx, r.f, skipHashCheck); err == nil {
		err = guard(func() error { return r.open(skipHashCheck) })
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// check reads the file once, and returns its size and its checksum, nil if that is not looked at.
func check(ctx context.Context, f *os.File, skip bool) (size int64, want []byte, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	size = st.Size()
	switch {
	case !st.Mode().IsRegular():
		return 0, nil, fmt.Errorf("%s: %w", f.Name(), ErrForeign)
	case skip:
		return size, nil, nil
	case size%sectorBytes == 0 && size > 0:
		return 0, nil, ErrNoSum
	case size%sectorBytes != sha256.Size || size < pageSize:
		return 0, nil, fmt.Errorf("%w, or has been cut", ErrForeign)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, &contextReader{ctx, io.NewSectionReader(f, 0, size-sha256.Size)}); err != nil {
		return 0, nil, err
	}
	want = make([]byte, sha256.Size)
	if _, err := f.ReadAt(want, size-sha256.Size); err != nil {
		return 0, nil, err
	}
	if !bytes.Equal(sum.Sum(nil), want) {
		return 0, nil, fmt.Errorf("%w: its checksum is another", ErrDamaged)
	}
	return size, want, nil
}

// contextReader is a reader that ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// guard returns ErrDamaged if bbolt panics or reads outside of the mapped file, which it does with a damaged file.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return f()
}

func (r *Reader) open(check bool) (err error) {
	r.db, err = bolt.Open(r.f.Name(), 0o400, &bolt.Options{
		ReadOnly: true,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return r.f, nil }, // bbolt closes it
	})
	switch {
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", ErrForeign, err)
	case errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if r.tx, err = r.db.Begin(false); err != nil {
		return err
	}
	if r.tx.Size() > r.Size {
		return fmt.Errorf("%w: it was cut, and only %d bytes of %d are left", ErrDamaged, r.Size, r.tx.Size())
	}
	if check {
		if err := r.checkTree(); err != nil {
			return err
		}
	}
	keys, meta := r.tx.Bucket(bucketKey), r.tx.Bucket(bucketMeta)
	if r.events = bucketKey; keys == nil {
		r.events = bucketLog
		keys = r.tx.Bucket(bucketLog)
	}
	if keys == nil || meta == nil {
		return fmt.Errorf("%w: it is a bbolt file without etcd's buckets", ErrForeign)
	}
	if err := r.revisions(keys, meta); err != nil || bytes.Equal(r.events, bucketKey) {
		return err
	}
	return r.log(meta)
}

// log reads the marks of a log file.
func (r *Reader) log(meta *bolt.Bucket) error {
	since, rev := meta.Get(metaSince), meta.Get(metaRevision)
	if len(since) != 8 || len(rev) != 8 {
		return fmt.Errorf("%w: it is a log without a revision at which it begins", ErrDamaged)
	}
	last := r.Revision
	r.Since, r.Revision = int64(binary.BigEndian.Uint64(since)), int64(binary.BigEndian.Uint64(rev))
	if r.Since <= 0 || r.Revision < max(r.Since, last) {
		return fmt.Errorf("%w: revision %d, since %d, last %d", ErrDamaged, r.Revision, r.Since, last)
	}
	return nil
}

// Sum returns the SHA-256 of the events of a revision as the file has them. It is the same in every file of the same
// history. ok is false if the revision has no events.
func (r *Reader) Sum(rev int64) (sum [sha256.Size]byte, ok bool, err error) {
	h := sha256.New()
	err = guard(func() error {
		c := r.tx.Bucket(r.events).Cursor()
		for k, v := c.Seek(appendRevision(nil, rev, 0, false)); k != nil; k, v = c.Next() {
			at, _, err := parseRevision(k)
			if err != nil {
				return fmt.Errorf("%w: a key is %w", ErrDamaged, err)
			}
			if at != rev {
				return nil
			}
			ok = true
			h.Write(k)
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(v))))
			h.Write(v)
		}
		return nil
	})
	return [sha256.Size]byte(h.Sum(nil)), ok, err
}

// checkTree checks what bbolt does not check.
func (r *Reader) checkTree() error {
	t := newTree(r.f, r.db.Info().PageSize, r.tx.Size())
	if err := t.walk(uint64(r.tx.Cursor().Bucket().Root()), 0); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// revisions reads the file's revisions, by etcd's rule.
func (r *Reader) revisions(keys, meta *bolt.Bucket) error {
	r.Version = string(meta.Get(metaStorage))
	marks := [2]int64{-1, -1} // finished, scheduled
	for i, name := range [][]byte{metaFinished, metaScheduled} {
		b := meta.Get(name)
		if b == nil {
			continue
		}
		rev, _, err := parseRevision(b)
		if err != nil {
			return fmt.Errorf("%w: %s is %w", ErrDamaged, name, err)
		}
		marks[i] = rev
	}
	r.Compact, r.Superseded = max(marks[0], marks[1]), marks[1] > marks[0]
	r.Revision = max(1, r.Compact)
	if k, _ := keys.Cursor().Last(); k != nil {
		rev, _, err := parseRevision(k)
		if err != nil {
			return fmt.Errorf("%w: a key is %w", ErrDamaged, err)
		}
		r.Revision = max(r.Revision, rev)
	}
	return nil
}

// Raw reads the file's own bytes from the beginning, with the checksum. It may be called several times.
func (r *Reader) Raw() io.Reader { return io.NewSectionReader(r.f, 0, r.Size) }

// Close closes the file.
func (r *Reader) Close() error {
	err := guard(func() error {
		var err error
		if r.tx != nil {
			err = r.tx.Rollback()
		}
		if r.db != nil {
			err = errors.Join(err, r.db.Close())
		}
		r.tx, r.db = nil, nil
		return err
	})
	if r.temp {
		return errors.Join(err, CloseTemp(r.f))
	}
	return errors.Join(err, closeFile(r.f))
}

// closeFile closes a file that bbolt may have closed already.
func closeFile(f *os.File) error {
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// rows visits the rows of a bucket in order. A missing bucket has none.
func (r *Reader) rows(ctx context.Context, bucket []byte, visit func(k, v []byte) error) error {
	return guard(func() error {
		b := r.tx.Bucket(bucket)
		if b == nil {
			return nil
		}
		var last []byte
		n := 0
		for c, k, v := cursor(b); k != nil; k, v = c.Next() {
			// In a damaged file a cursor may go round in circles.
			if last != nil && bytes.Compare(last, k) >= 0 {
				return fmt.Errorf("%w: rows are out of order", ErrDamaged)
			}
			last = append(last[:0], k...)
			if n++; n%ctxEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if err := visit(k, v); err != nil {
				return err
			}
		}
		return nil
	})
}

func cursor(b *bolt.Bucket) (c *bolt.Cursor, k, v []byte) {
	c = b.Cursor()
	k, v = c.First()
	return c, k, v
}

// Events visits the file's versions and tombstones in the order of their revisions. The event is valid during the call
// and has no previous version. Errors: ErrDamaged, the context's, visit's.
func (r *Reader) Events(ctx context.Context, visit func(rev int64, ev *revlog.Event) error) error {
	var ev revlog.Event
	return r.rows(ctx, r.events, func(k, v []byte) error {
		rev, tombstone, err := parseRevision(k)
		if err != nil {
			return fmt.Errorf("%w: a key is %w", ErrDamaged, err)
		}
		if len(v) == 0 { // etcdutl writes it to raise the revision
			return nil
		}
		ev = revlog.Event{Delete: tombstone}
		if err := revlog.ParseKeyValue(v, &ev.KV); err != nil || !sound(rev, &ev) {
			return fmt.Errorf("%w: revision %d is not a version of a key", ErrDamaged, rev)
		}
		ev.KV.Mod = rev
		return visit(rev, &ev)
	})
}

// sound says whether the values of a row are possible.
func sound(rev int64, ev *revlog.Event) bool {
	kv := &ev.KV
	if len(kv.Key) == 0 {
		return false
	}
	return ev.Delete || kv.Mod == rev && kv.Create > 0 && kv.Create <= rev && kv.Version > 0
}

// Leases visits the leases. Errors: as Events.
func (r *Reader) Leases(ctx context.Context, visit func(l mvcc.ImportLease) error) error {
	return r.rows(ctx, bucketLease, func(k, v []byte) error {
		id, ttl, err := parseLease(v)
		if err != nil || len(k) != 8 || int64(binary.BigEndian.Uint64(k)) != id {
			return fmt.Errorf("%w: lease %x is not a lease", ErrDamaged, k)
		}
		return visit(mvcc.ImportLease{ID: id, TTL: ttl})
	})
}

// Status describes a file.
type Status struct {
	Revision  int64  `json:"revision"`
	Compact   int64  `json:"compactRevision"` // -1: never compacted
	Keys      int64  `json:"totalKey"`        // live at the revision
	Revisions int64  `json:"totalRevisions"`  // versions and tombstones
	Leases    int64  `json:"totalLease"`
	Users     int    `json:"totalUser"`
	Auth      bool   `json:"authEnabled"`
	Size      int64  `json:"totalSize"`
	Version   string `json:"version"` // "": before 3.6
}

// Status reads the whole file. It holds the keys in memory, as etcdutl does. Errors: as Events.
func (r *Reader) Status(ctx context.Context) (Status, error) {
	s := Status{Revision: r.Revision, Compact: r.Compact, Size: r.Size, Version: r.Version}
	live := map[string]struct{}{}
	err := r.Events(ctx, func(_ int64, ev *revlog.Event) error {
		s.Revisions++
		if ev.Delete {
			delete(live, string(ev.KV.Key))
		} else if _, there := live[string(ev.KV.Key)]; !there {
			live[string(ev.KV.Key)] = struct{}{}
		}
		return nil
	})
	s.Keys = int64(len(live))
	if err == nil {
		err = r.Leases(ctx, func(mvcc.ImportLease) error { s.Leases++; return nil })
	}
	if err == nil {
		var a Auth
		a, err = r.Auth(ctx)
		s.Users, s.Auth = len(a.Users), a.Enabled
	}
	return s, err
}

// Alarms reads the alarms. Errors: as Events.
func (r *Reader) Alarms(ctx context.Context) (all Alarms, err error) {
	err = r.rows(ctx, bucketAlarm, func(k, _ []byte) error {
		a := &pb.AlarmMember{}
		all = append(all, a)
		if err := proto.Unmarshal(k, a); err != nil {
			return fmt.Errorf("%w: an alarm: %w", ErrDamaged, err)
		}
		return nil
	})
	return all, err
}
