package memory

import (
	"context"

	"github.com/google/btree"

	"github.com/headwaterdb/headwater/libs/engine"
)

// page is how many rows an iterator reads from a tree at a time.
const page = 64

// reader reads one state.
type reader struct {
	rows    *btree.BTreeG[row]
	version uint64
	ended   bool
}

func (r *reader) check(ctx context.Context) error {
	if r.ended {
		return engine.ErrClosed
	}
	return ctx.Err()
}

// Version implements engine.Reader.
func (r *reader) Version() uint64 { return r.version }

// Get implements engine.Reader.
func (r *reader) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	w, ok := r.rows.Get(row{key: key})
	if !ok {
		return nil, nil
	}
	return w.value, nil
}

// GetMany implements engine.Reader.
func (r *reader) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	return getMany(ctx, keys, r.Get)
}

// getMany gets one key after the other.
func getMany(
	ctx context.Context, keys [][]byte, get func(context.Context, []byte) ([]byte, error),
) (values [][]byte, err error) {
	values = make([][]byte, len(keys))
	for i, key := range keys {
		if values[i], err = get(ctx, key); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// Scan implements engine.Reader.
func (r *reader) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	it := &iterator{r: r, ctx: ctx, span: span{clone(q.Begin), cloneEnd(q.End)}, reverse: q.Reverse, left: q.Limit}
	if q.Limit == 0 {
		it.left = -1
	}
	it.done = it.span.empty()
	return it
}

// snapshot is an engine.Snapshot.
type snapshot struct{ reader }

// Close implements engine.Snapshot.
func (s *snapshot) Close() { s.ended = true }

// iterator is an engine.Iterator.
type iterator struct {
	r       *reader
	ctx     context.Context
	span    span // what is still to be visited
	reverse bool
	left    int // rows that may be returned; negative: no bound
	page    []row
	at      row
	steps   int
	done    bool // there are no rows after the page
	end     bool // Next has found the end of the range
	err     error
	onClose func(*iterator)
}

// Next implements engine.Iterator.
func (it *iterator) Next() bool {
	if it.err = it.r.check(it.ctx); it.err != nil || it.left == 0 {
		return false
	}
	if len(it.page) == 0 && !it.done {
		it.fill()
	}
	if len(it.page) == 0 {
		it.end = true
		return false
	}
	it.at, it.page = it.page[0], it.page[1:]
	it.steps++
	if it.left > 0 {
		it.left--
	}
	return true
}

// fill takes the next page.
func (it *iterator) fill() {
	it.page = nil
	take := func(w row) bool {
		it.page = append(it.page, w)
		return len(it.page) < page
	}
	t := it.r.rows
	switch begin, end := (row{key: it.span.begin}), (row{key: it.span.end}); {
	case it.reverse && it.span.end == nil:
		t.DescendGreaterThan(begin, take)
		it.first(begin, take)
	case it.reverse:
		t.DescendLessOrEqual(end, func(w row) bool {
			if string(w.key) >= string(end.key) {
				return true
			}
			return string(w.key) >= string(begin.key) && take(w)
		})
	case it.span.end == nil:
		t.AscendGreaterOrEqual(begin, take)
	default:
		t.AscendRange(begin, end, take)
	}
	if len(it.page) < page {
		it.done = true
		return
	}
	last := it.page[len(it.page)-1].key
	if it.reverse {
		it.span.end = last
	} else {
		it.span.begin = append(append(make([]byte, 0, len(last)+1), last...), 0)
	}
}

// first adds the row at the begin of the range, which DescendGreaterThan leaves out.
func (it *iterator) first(begin row, take func(row) bool) {
	if w, ok := it.r.rows.Get(begin); ok && len(it.page) < page {
		take(w)
	}
}

// Key implements engine.Iterator.
func (it *iterator) Key() []byte { return it.at.key }

// Value implements engine.Iterator.
func (it *iterator) Value() []byte { return it.at.value }

// Err implements engine.Iterator.
func (it *iterator) Err() error { return it.err }

// Close implements engine.Iterator.
func (it *iterator) Close() error {
	if it.onClose != nil {
		it.onClose(it)
		it.onClose = nil
	}
	return nil
}
