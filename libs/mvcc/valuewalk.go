package mvcc

import (
	"bytes"
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// walkSteps is how many rows of other versions a walk steps over to reach the next value. If there are more, it seeks
// instead.
const walkSteps = 4

// valueWalk reads values in the order of their keys with an iterator. They lie in the same order, mostly side by side,
// and what an iterator shows needs no copy. It is for engines of this process, where a step costs no round trip. The
// zero value with s, r and steps set is ready to use. It must be closed.
type valueWalk struct {
	s     *Store
	r     engine.Reader
	steps int             // walkSteps, or another number of rows
	it    engine.Iterator // nil: none is open
	row   []byte          // scratch: the row looked for
	buf   []byte          // scratch: a value of several chunks
}

// read returns a value, which is valid until the next call; nil if it does not exist.
func (w *valueWalk) read(ctx context.Context, ref *ValueRef) ([]byte, error) {
	w.buf = w.buf[:0]
	n, gone := chunksOf(ref.Size, w.s.meta.ChunkBytes), 0
	for i := range n {
		w.row = w.s.valRow(w.row[:0], ref, i)
		part, err := w.find(ctx)
		switch {
		case err != nil:
			return nil, err
		case part == nil:
			gone++
		case n == 1 && len(part) == ref.Size:
			return part, nil
		}
		w.buf = append(w.buf, part...)
	}
	switch {
	case gone == n:
		return nil, nil
	case gone > 0, len(w.buf) != ref.Size:
		return nil, ErrCorrupt
	}
	return w.buf, nil
}

// find returns the value of w.row; nil if it does not exist.
func (w *valueWalk) find(ctx context.Context) ([]byte, error) {
	for step := 0; w.it != nil && step < w.steps; step++ {
		switch order := bytes.Compare(w.it.Key(), w.row); {
		case order == 0:
			return w.it.Value(), nil
		case order > 0 || !w.it.Next():
			step = w.steps
		}
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	w.it = w.r.Scan(ctx, engine.Range{Begin: w.row, End: w.s.rows.tableRange(tableVal).End, NoConflict: true})
	switch {
	case !w.it.Next():
		return nil, w.close()
	case bytes.Equal(w.it.Key(), w.row):
		return w.it.Value(), nil
	}
	return nil, nil
}

// close closes the iterator and returns the iterator's error, if there was one.
func (w *valueWalk) close() error {
	if w.it == nil {
		return nil
	}
	it := w.it
	w.it = nil
	return it.Close()
}
