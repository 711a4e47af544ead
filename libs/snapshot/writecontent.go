package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"os"
	"slices"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// WriteContent makes a file of content that need not come from one file, such as a chain of backups. Of Options it uses
// Dir, Reserve and Expect. The same content makes the same file. The caller closes the File. Errors: those of the
// content, ErrNoSpace, those of the file system, the context's.
func WriteContent(ctx context.Context, c *Content, o Options) (*File, error) {
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	w := &writer{
		o:     Options{Dir: o.Dir, Reserve: o.Reserve, Member: Member{ID: 1, Name: "headwater"}, Alarms: c.Alarms},
		small: map[string][]smallRow{},
	}
	if err := w.room(o.Expect); err != nil {
		return nil, err
	}
	f, err := w.content(ctx, c)
	if err != nil {
		return nil, errors.Join(err, w.discard())
	}
	return f, nil
}

func (w *writer) content(ctx context.Context, c *Content) (_ *File, err error) {
	if w.file, err = TempFile(w.o.Dir); err != nil {
		return nil, err
	}
	w.pages = newPageWriter(w.file)
	if err := w.contentEvents(ctx, c); err != nil {
		return nil, err
	}
	if err := w.contentLeases(c); err != nil {
		return nil, err
	}
	if err := errors.Join(w.describe(c.Revision), w.auth(&c.Auth)); err != nil {
		return nil, err
	}
	if c.Compact >= 0 {
		row := appendRevision(nil, c.Compact, 0, false)
		w.putSmall(bucketMeta, metaScheduled, row)
		if !c.Superseded { // etcd says so of a compaction that has not ended
			w.putSmall(bucketMeta, metaFinished, row)
		}
	}
	if err := w.smallBuckets(ctx, nil); err != nil {
		return nil, err
	}
	return w.finish(c.Revision)
}

// contentEvents writes the versions and tombstones. If the last revision has none, an empty row raises the file's
// revision, as etcdutl does it.
func (w *writer) contentEvents(ctx context.Context, c *Content) error {
	last, sub := int64(-1), 0
	err := c.Events(ctx, func(rev int64, ev *revlog.Event) error {
		if sub++; rev != last {
			last, sub = rev, 0
		}
		kv := &ev.KV
		if ev.Delete {
			kv = &mvcc.KV{Key: ev.KV.Key}
		}
		return w.putKV(rev, sub, ev.Delete, func(b []byte) []byte { return revlog.AppendKeyValue(b, kv) })
	})
	if err != nil {
		return err
	}
	if c.Revision > max(last, c.Compact, 1) {
		if err := w.putKV(c.Revision, 0, false, func(b []byte) []byte { return b }); err != nil {
			return err
		}
	}
	return w.end(bucketKey)
}

func (w *writer) contentLeases(c *Content) error {
	leases := slices.Clone(c.Leases)
	slices.SortFunc(leases, func(a, b mvcc.ImportLease) int { return cmp.Compare(uint64(a.ID), uint64(b.ID)) })
	for _, l := range leases {
		err := w.put(func(b []byte) ([]byte, int) {
			return appendLease(binary.BigEndian.AppendUint64(b, uint64(l.ID)), l.ID, l.TTL), 8
		})
		if err != nil {
			return err
		}
	}
	return w.end(bucketLease)
}

// Summed reads the file from the beginning, and then its SHA-256, as Maintenance.Snapshot sends it. It may be called
// several times.
func (f *File) Summed() io.Reader { return &summed{r: f.Reader(), h: sha256.New()} }

// summed reads a reader and its sum.
type summed struct {
	r io.Reader
	h hash.Hash // nil: r is the sum
}

// Read implements io.Reader.
func (s *summed) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if s.h == nil {
		return n, err
	}
	s.h.Write(b[:n])
	if errors.Is(err, io.EOF) {
		s.r, s.h, err = bytes.NewReader(s.h.Sum(nil)), nil, nil
	}
	return n, err
}
