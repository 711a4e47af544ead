package mvcc

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// ValueRef identifies a value that is stored apart from its version: by its key and the revision that wrote it.
type ValueRef struct {
	Key   []byte
	Mod   int64
	Size  int // bytes, at least 1
	Place revlog.Place
}

// refOf returns the reference to the value of a version in an event. The value must not be inline.
func refOf(kv *KV) ValueRef {
	return ValueRef{Key: kv.Key, Mod: kv.Mod, Size: kv.Size, Place: kv.Place}
}

// ref returns the reference to the value of a key's record. The value must not be inline.
func (r *record) ref(key []byte) ValueRef {
	return ValueRef{Key: key, Mod: r.mod, Size: r.size, Place: r.place}
}

// ReadValues returns the values of versions whose Unread is true, in newly allocated memory. A value that a compaction
// has removed is nil. Values of log entries above the compact revision always exist, and so do the new values of the
// entry at it. Errors: ErrUnavailable, ErrCorrupt, the context's.
func (s *Store) ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error) {
	values := make([][]byte, len(kvs))
	done := 0
	err := s.view(ctx, func(snap engine.Snapshot) error {
		for done < len(kvs) {
			n, err := s.readSome(ctx, snap, kvs[done:], values[done:])
			if err != nil {
				return err
			}
			done += n
		}
		return nil
	})
	return values, wanted("a value of the history", err)
}

// valuesBytesMax bounds the values that are read from a reader at a time. A single value may be larger.
const valuesBytesMax = 8 << 20

// readSome reads as many values as valuesBytesMax allows and copies them.
func (s *Store) readSome(ctx context.Context, r engine.Reader, kvs []*revlog.KV, into [][]byte) (n int, err error) {
	var refs []ValueRef
	for size := 0; n < len(kvs) && (n == 0 || size+kvs[n].Size <= valuesBytesMax); n++ {
		size += kvs[n].Size
		refs = append(refs, refOf(kvs[n]))
	}
	if s.limits.Dense {
		return n, s.walkValues(ctx, r, refs, into)
	}
	values, err := s.readValues(ctx, r, refs)
	if err != nil {
		return 0, err
	}
	for i, v := range values {
		if v != nil {
			into[i] = append(make([]byte, 0, len(v)), v...)
		}
	}
	return n, nil
}

// walkValues reads values one after the other, and copies each only once.
func (s *Store) walkValues(ctx context.Context, r engine.Reader, refs []ValueRef, into [][]byte) error {
	w := valueWalk{s: s, r: r, steps: walkSteps}
	defer w.close() // its error has been returned
	for i := range refs {
		v, err := w.read(ctx, &refs[i])
		if err != nil {
			return storeErr(err)
		}
		if v != nil {
			into[i] = append(make([]byte, 0, len(v)), v...)
		}
	}
	return nil
}

// readValues reads values in one request. A value without rows is nil. The values are valid as long as the reader.
func (s *Store) readValues(ctx context.Context, r engine.Reader, refs []ValueRef) ([][]byte, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	rows := make([][]byte, 0, len(refs))
	for i := range refs {
		rows = s.valRows(rows, &refs[i])
	}
	chunks, err := r.GetMany(ctx, rows)
	if err != nil {
		return nil, storeErr(err)
	}
	return s.joinValues(refs, chunks)
}

// joinValues puts the rows of values together. A value without rows is nil.
func (s *Store) joinValues(refs []ValueRef, chunks [][]byte) (values [][]byte, err error) {
	values = make([][]byte, len(refs))
	for i := range refs {
		n := chunksOf(refs[i].Size, s.meta.ChunkBytes)
		if values[i], err = join(chunks[:n], refs[i].Size); err != nil {
			return nil, err
		}
		chunks = chunks[n:]
	}
	return values, nil
}

// join puts the chunks of a value end to end. It returns nil if there is no chunk.
func join(chunks [][]byte, size int) ([]byte, error) {
	gone, sum := 0, 0
	for _, c := range chunks {
		if c == nil {
			gone++
		}
		sum += len(c)
	}
	switch {
	case gone == len(chunks):
		return nil, nil
	case gone > 0, sum != size:
		return nil, ErrCorrupt
	}
	return cut(chunks, 0, size)
}

// valRows appends the rows of a value.
func (s *Store) valRows(dst [][]byte, ref *ValueRef) [][]byte {
	for i := range chunksOf(ref.Size, s.meta.ChunkBytes) {
		dst = append(dst, s.valRow(nil, ref, i))
	}
	return dst
}

// valRow appends the key of one row of a value.
func (s *Store) valRow(dst []byte, ref *ValueRef, chunk int) []byte {
	if ref.Place == revlog.PlaceOld {
		return s.rows.valOld(dst, ref.Key, chunk)
	}
	return s.rows.valChunk(dst, ref.Key, s.meta.Space.Stamp(ref.Mod), chunk)
}

// valBytes is the size of the rows of a value among the live bytes.
func (s *Store) valBytes(ref *ValueRef) int64 {
	n := chunksOf(ref.Size, s.meta.ChunkBytes)
	return int64(n)*s.rows.bytes(s.valRow(nil, ref, 0), 0) + int64(ref.Size)
}

// Fill reads the values of log entries that have not been read, and puts them into the entries, which must be the
// caller's own. An event whose previous value a compaction has removed loses its previous version, as it does for
// watches. That happens only at or below the compact revision. Errors: ErrCompacted (a compaction has removed a new
// value), and those of ReadValues.
func (s *Store) Fill(ctx context.Context, entries []revlog.Entry) error {
	var unread []*revlog.KV
	var events []*revlog.Event
	for i := range entries {
		for j := range entries[i].Events {
			ev := &entries[i].Events[j]
			for _, kv := range [...]*revlog.KV{&ev.KV, &ev.Prev} {
				if kv.Unread() {
					unread, events = append(unread, kv), append(events, ev)
				}
			}
		}
	}
	values, err := s.ReadValues(ctx, unread)
	if err != nil {
		return err
	}
	for i, kv := range unread {
		switch {
		case values[i] != nil:
			kv.Value = values[i]
		case kv == &events[i].Prev:
			events[i].HasPrev, events[i].Prev = false, revlog.KV{}
		default:
			return ErrCompacted
		}
	}
	return nil
}
