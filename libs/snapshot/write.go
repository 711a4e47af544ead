package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Limits of writing.
const (
	// roomEvery is how many bytes are written between two checks of the free space.
	roomEvery = 8 << 20
	// reserveBytes is what must stay free where the file is: this, or an eighth of the disk if that is less.
	reserveBytes  = 256 << 20
	pageSize      = 4096
	leasesSeenMax = 4 << 20
)

// ErrNoSpace: there is not enough free space for the file.
var ErrNoSpace = errors.New("snapshot: no space left for the snapshot's file")

// Options say where a file is made, and what it has beside keys and leases.
type Options struct {
	// Dir is the directory of the file while it is made and sent ("": the system's for temporary files).
	Dir string
	// Reserve is how many bytes must stay free there. 0: 256 MiB, or an eighth of the disk if that is less. Negative:
	// no check.
	Reserve int64
	// Expect is the approximate size of the keyspace in bytes. Write fails at once if there is less space than the file
	// may need.
	Expect int64
	// Since, if not 0, makes a log file: it has the changes since that revision, with the revision's own events, and
	// not the state before. Only RestoreContent takes it. The errors then include mvcc's ErrCompacted and
	// ErrFutureRevision.
	Since  int64
	Member Member
	Alarms Alarms
	// Auth reads the users and roles (AuthOf). nil: the file has none.
	Auth func(ctx context.Context) (Auth, error)
}

// File is a database file that nobody else can see. It has no checksum at its end.
type File struct {
	f    *os.File
	size int64
	// Revision is the revision at which the keyspace was read.
	Revision int64
}

// Size returns the size of the file in bytes, a multiple of 4096.
func (f *File) Size() int64 { return f.size }

// Reader reads the file from the beginning. It may be called several times.
func (f *File) Reader() io.Reader { return io.NewSectionReader(f.f, 0, f.size) }

// Close removes the file.
func (f *File) Close() error { return CloseTemp(f.f) }

// Write makes the file of a keyspace. The caller closes the Dump and the File. Errors: ErrNoSpace, those of the dump,
// those of the file system, the context's.
func Write(ctx context.Context, d *mvcc.Dump, o Options) (*File, error) {
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	switch {
	case o.Since > d.Rev:
		return nil, mvcc.ErrFutureRevision
	case o.Since > 0 && o.Since < d.Compact:
		return nil, mvcc.ErrCompacted
	}
	w := newWriter(o)
	if err := w.room(3 * o.Expect / 2); err != nil { // room for sorting too, minus what an index takes
		return nil, err
	}
	f, err := w.write(ctx, d)
	if err != nil {
		return nil, errors.Join(err, w.discard())
	}
	return f, nil
}

// writer makes one file.
type writer struct {
	o     Options
	file  *os.File
	pages *pageWriter
	roots []bucketRoot
	small map[string][]smallRow // by bucket

	checked int64 // the size up to which there is room
	window  windowLimits

	wrote  bool // a revision is in the bucket key
	leases map[int64]struct{}
	all    bool // versions name more leases than are kept here, so any lease may be named
}

func newWriter(o Options) *writer {
	return &writer{o: o, window: defaultWindow, leases: map[int64]struct{}{}, small: map[string][]smallRow{}}
}

// room checks that bytes more can be written.
func (w *writer) room(bytes int64) error { return Room(w.o.Dir, w.o.Reserve, bytes) }

func (w *writer) write(ctx context.Context, d *mvcc.Dump) (*File, error) {
	var err error
	if w.file, err = TempFile(w.o.Dir); err != nil {
		return nil, err
	}
	w.pages = newPageWriter(w.file)
	for _, part := range []func(context.Context, *mvcc.Dump) error{
		w.versions, w.events, w.leaseRows, w.others, w.smallBuckets,
	} {
		if err := part(ctx, d); err != nil {
			return nil, err
		}
	}
	return w.finish(d.Rev)
}

// finish completes the file.
func (w *writer) finish(rev int64) (*File, error) {
	slices.SortFunc(w.roots, func(a, b bucketRoot) int { return bytes.Compare(a.name, b.name) })
	if err := w.pages.finish(w.roots); err != nil {
		return nil, err
	}
	return &File{f: w.file, size: w.pages.size(), Revision: rev}, nil
}

func (w *writer) discard() error {
	if w.file == nil {
		return nil
	}
	return CloseTemp(w.file)
}

// put writes a row. write appends the key and then the value to its argument, and returns the length of the key. The
// rows of a bucket come in order.
func (w *writer) put(write func(b []byte) (out []byte, key int)) error {
	if w.pages.size() >= w.checked {
		if err := w.room(2 * roomEvery); err != nil {
			return err
		}
		w.checked = w.pages.size() + roomEvery
	}
	return w.pages.put(write)
}

// end ends the bucket that is being written.
func (w *writer) end(bucket []byte) error {
	root, err := w.pages.endBucket(bucket)
	w.roots = append(w.roots, root)
	return err
}

// putKV writes a version, or a tombstone.
func (w *writer) putKV(rev int64, sub int, tombstone bool, write func(b []byte) []byte) error {
	w.wrote = true
	return w.put(func(b []byte) ([]byte, int) {
		from := len(b)
		b = appendRevision(b, rev, sub, tombstone)
		key := len(b) - from
		return write(b), key
	})
}

// names notes that a version names a lease.
func (w *writer) names(id int64) {
	if id == 0 || w.all {
		return
	}
	if w.leases[id] = struct{}{}; len(w.leases) > leasesSeenMax {
		w.leases, w.all = nil, true
	}
}

// versions writes the versions that were live at the compact revision, in the order of revisions.
func (w *writer) versions(ctx context.Context, d *mvcc.Dump) (err error) {
	if w.o.Since > 0 {
		return nil
	}
	s := newSorter(w.o.Dir, sortBytes)
	defer func() { err = errors.Join(err, s.close()) }()
	err = d.Versions(ctx, func(kv *mvcc.KV) error {
		w.names(kv.Lease)
		return w.sort(s, kv.Mod, 0, func(b []byte) []byte { return revlog.AppendKeyValue(b, kv) })
	})
	if err != nil {
		return err
	}
	last, sub := int64(-1), 0
	return s.each(func(rev int64, _ int, rec []byte) error {
		if sub++; rev != last {
			last, sub = rev, 0
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return w.putKV(rev, sub, false, func(b []byte) []byte { return append(b, rec...) })
	})
}

// sort adds a record to a sorter. Now and then it checks that there is room for what the sorter writes.
func (w *writer) sort(s *sorter, rev int64, sub int, write func(b []byte) []byte) error {
	runs := len(s.runs)
	if err := s.add(rev, sub, write); err != nil || len(s.runs) == runs {
		return err
	}
	return w.room(2 * int64(s.max))
}

// events writes the later events.
func (w *writer) events(ctx context.Context, d *mvcc.Dump) error {
	from, bucket := max(d.Compact, 0), bucketKey
	if w.o.Since > 0 {
		from, bucket = w.o.Since, bucketLog
	}
	h := history{w: w, d: d, from: from, limits: w.window}
	if !d.KeyOrder() {
		h.limits.apart = 0
	}
	if err := h.write(ctx); err != nil {
		return err
	}
	return w.end(bucket)
}

func (w *writer) leaseRows(ctx context.Context, d *mvcc.Dump) error {
	named := make([]int64, 0, len(w.leases)+1)
	for id := range w.leases {
		named = append(named, id)
	}
	if w.all {
		named = append(named, 0) // 0 means all keys
	}
	err := d.Leases(ctx, named, func(id, ttl int64) error {
		return w.put(func(b []byte) ([]byte, int) {
			return appendLease(binary.BigEndian.AppendUint64(b, uint64(id)), id, ttl), 8
		})
	})
	if err != nil {
		return err
	}
	return w.end(bucketLease)
}

// smallRow is a row of a bucket that has few rows.
type smallRow struct{ key, value []byte }

// putSmall keeps a row of a bucket that has few rows.
func (w *writer) putSmall(bucket, key, value []byte) {
	w.small[string(bucket)] = append(w.small[string(bucket)], smallRow{key, value})
}

// smallBuckets writes the buckets that have few rows or none.
func (w *writer) smallBuckets(ctx context.Context, _ *mvcc.Dump) error {
	for _, name := range buckets {
		if bytes.Equal(name, bucketKey) || bytes.Equal(name, bucketLease) {
			continue
		}
		rows := w.small[string(name)]
		slices.SortFunc(rows, func(a, b smallRow) int { return bytes.Compare(a.key, b.key) })
		rows = slices.CompactFunc(rows, func(a, b smallRow) bool { return bytes.Equal(a.key, b.key) })
		for _, r := range rows {
			err := w.put(func(b []byte) ([]byte, int) { return append(append(b, r.key...), r.value...), len(r.key) })
			if err != nil {
				return err
			}
		}
		if err := errors.Join(w.end(name), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// others collects the rows of the small buckets.
func (w *writer) others(ctx context.Context, d *mvcc.Dump) error {
	errs := []error{w.describe(d.Rev)}
	if w.o.Since > 0 {
		w.putSmall(bucketMeta, metaSince, number(uint64(w.o.Since)))
		w.putSmall(bucketMeta, metaRevision, number(uint64(d.Rev)))
	}
	if c := compacted(d, w.wrote); c >= 0 {
		w.putSmall(bucketMeta, metaScheduled, appendRevision(nil, c, 0, false))
		w.putSmall(bucketMeta, metaFinished, appendRevision(nil, c, 0, false))
	}
	if w.o.Auth != nil {
		a, err := w.o.Auth(ctx)
		errs = append(errs, err, w.auth(&a))
	}
	return errors.Join(errs...)
}

func number(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// describe collects the rows about the member, and its alarms.
func (w *writer) describe(rev int64) error {
	put := w.putSmall
	put(bucketMeta, metaIndex, number(uint64(max(rev, 1))))
	put(bucketMeta, metaTerm, number(max(w.o.Member.Term, 1)))
	put(bucketMeta, metaStorage, []byte(StorageVersion))
	voters, err := json.Marshal(map[string]any{"voters": []uint64{w.o.Member.ID}, "auto_leave": false})
	if err != nil {
		return err
	}
	put(bucketMeta, metaConfState, voters)
	member, err := json.Marshal(map[string]any{
		"id": w.o.Member.ID, "peerURLs": []string{}, "name": w.o.Member.Name, "clientURLs": w.o.Member.ClientURLs,
	})
	if err != nil {
		return err
	}
	put(bucketMembers, []byte(strconv.FormatUint(w.o.Member.ID, 16)), member)
	for _, a := range w.o.Alarms {
		row, err := proto.Marshal(a)
		if err != nil {
			return err
		}
		put(bucketAlarm, row, nil)
	}
	return nil
}

// compacted returns the compact revision of the file, or -1. A keyspace without any event has one too, because etcd
// reads the revision from there.
func compacted(d *mvcc.Dump, wrote bool) int64 {
	if !wrote && d.Rev > 1 {
		return d.Rev
	}
	return d.Compact
}
