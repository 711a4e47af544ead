package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// Limits of a window of the log.
const (
	// windowBytes bounds the records of a window, of which what exceeds windowSort is on disk.
	windowBytes = 256 << 20
	windowSort  = 8 << 20
	// windowRefs bounds the memory for the versions of a window whose values have not been read yet.
	windowRefs = 16 << 20
	// apartBytes is the size from which a value is read in the order of the log: the engine reads little else for it.
	apartBytes = 16 << 10
)

// A value that is kept apart lies where its key is, so the values of consecutive revisions lie far from one another,
// and an engine reads a block of many rows for each. So the log is taken in windows. The values of a window are read in
// the order of their keys, and its records are sorted by revision again.

// windowLimits are the limits above.
type windowLimits struct{ bytes, refs, apart, sort int }

var defaultWindow = windowLimits{windowBytes, windowRefs, apartBytes, windowSort}

// history writes the events of a window of the log after another.
type history struct {
	w      *writer
	d      *mvcc.Dump
	limits windowLimits
	from   int64 // revision at which the next window begins

	// Of the present window:
	sorted *sorter // nil: nothing has been put off
	refs   []ref
	keys   []byte // of refs
	bytes  int    // of records
}

// ref is a version whose value is read later.
type ref struct {
	key, keyEnd                 int // in keys
	sub, size                   int
	create, mod, version, lease int64
	place                       revlog.Place
}

const refBytes = 80

// errWindow ends a window.
var errWindow = errors.New("snapshot: a window of the log is full")

// write writes all windows.
func (h *history) write(ctx context.Context) error {
	for more := true; more; {
		err := h.d.LogFrom(ctx, h.from, h.limits.apart, h.entry)
		if more = errors.Is(err, errWindow); more {
			err = nil
		}
		if err == nil {
			err = h.end(ctx)
		}
		if err != nil {
			return errors.Join(err, h.close())
		}
	}
	return nil
}

func (h *history) close() error {
	if h.sorted == nil {
		return nil
	}
	s := h.sorted
	h.sorted, h.refs, h.keys, h.bytes = nil, h.refs[:0], h.keys[:0], 0
	return s.close()
}

// entry takes an entry of the log into the window.
func (h *history) entry(e *revlog.Entry) error {
	for sub := range e.Events {
		if err := h.event(e.Rev, sub, &e.Events[sub]); err != nil {
			return err
		}
	}
	h.from = e.Rev + 1
	if h.bytes >= h.limits.bytes || len(h.keys)+len(h.refs)*refBytes >= h.limits.refs {
		return errWindow
	}
	return nil
}

// event writes an event, or puts it off: one whose value is not there yet, and all after that.
func (h *history) event(rev int64, sub int, ev *revlog.Event) error {
	kv := &ev.KV
	h.w.names(kv.Lease)
	if kv.Unread() && !ev.Delete {
		if h.sorted == nil {
			h.sorted = newSorter(h.w.o.Dir, h.limits.sort)
		}
		at := len(h.keys)
		h.keys = append(h.keys, kv.Key...)
		h.refs = append(h.refs, ref{
			key: at, keyEnd: len(h.keys), sub: sub, size: kv.Size, create: kv.Create, mod: rev, version: kv.Version,
			lease: kv.Lease, place: kv.Place,
		})
		h.bytes += len(kv.Key) + kv.Size
		return nil
	}
	if ev.Delete {
		kv = &mvcc.KV{Key: ev.KV.Key}
	}
	if h.sorted == nil {
		return h.w.putKV(rev, sub, ev.Delete, func(b []byte) []byte { return revlog.AppendKeyValue(b, kv) })
	}
	h.bytes += len(kv.Key) + len(kv.Value)
	return h.put(rev, sub, ev.Delete, kv)
}

// The first byte of a record says whether it is a tombstone.
const (
	recordVersion = iota
	recordTombstone
)

// put puts a record off.
func (h *history) put(rev int64, sub int, tombstone bool, kv *mvcc.KV) error {
	kind := byte(recordVersion)
	if tombstone {
		kind = recordTombstone
	}
	return h.w.sort(h.sorted, rev, sub, func(b []byte) []byte { return revlog.AppendKeyValue(append(b, kind), kv) })
}

// end reads the values of the window, and writes what has been put off.
func (h *history) end(ctx context.Context) error {
	if h.sorted == nil {
		return nil
	}
	slices.SortFunc(h.refs, func(a, b ref) int {
		if order := bytes.Compare(h.keys[a.key:a.keyEnd], h.keys[b.key:b.keyEnd]); order != 0 {
			return order
		}
		return cmp.Compare(a.mod, b.mod)
	})
	err := h.d.Values(ctx, len(h.refs), h.version, func(i int, value []byte) error {
		kv := h.version(i)
		kv.Value = value
		return h.put(kv.Mod, h.refs[i].sub, false, &kv)
	})
	if err != nil {
		return err
	}
	err = h.sorted.each(func(rev int64, sub int, rec []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return h.w.putKV(rev, sub, rec[0] == recordTombstone, func(b []byte) []byte { return append(b, rec[1:]...) })
	})
	return errors.Join(err, h.close())
}

// version returns the version of a ref, without its value.
func (h *history) version(i int) mvcc.KV {
	r := &h.refs[i]
	return mvcc.KV{
		Key: h.keys[r.key:r.keyEnd], Create: r.create, Mod: r.mod, Version: r.version, Lease: r.lease,
		Place: r.place, Size: r.size,
	}
}
