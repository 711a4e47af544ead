package faults

import (
	"context"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// reader is an engine.Reader with faults.
type reader struct {
	s   *Store
	gen *generation
	in  engine.Reader

	begun time.Time
	size  *txnsize.Size // of the transaction; nil: a snapshot
}

// fail returns the error of a read, or nil if it may go on.
func (r *reader) fail(ctx context.Context, op Op, key []byte) error {
	switch r.s.ask(ctx, op, key) {
	case TooOld:
		return engine.ErrTooOld
	case Unavailable:
		return engine.ErrUnavailable
	}
	if r.gen.ctx.Err() != nil {
		return engine.ErrUnavailable
	}
	if r.s.aged(r.begun) {
		return engine.ErrTooOld
	}
	return nil
}

// note counts the read conflict of a key.
func (r *reader) note(key []byte) {
	if r.size != nil {
		r.size.ReadKey(len(key))
	}
}

// Version implements engine.Reader.
func (r *reader) Version() uint64 { return r.in.Version() }

// Get implements engine.Reader.
func (r *reader) Get(ctx context.Context, key []byte) ([]byte, error) {
	if err := r.fail(ctx, Get, key); err != nil {
		return nil, err
	}
	if err := r.s.look(key); err != nil {
		return nil, err
	}
	r.note(key)
	if err := r.s.travel(ctx, TripGet); err != nil {
		return nil, err
	}
	v, err := r.in.Get(ctx, key)
	return v, r.gen.err(err)
}

// GetMany implements engine.Reader.
func (r *reader) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	var first []byte
	if len(keys) > 0 {
		first = keys[0]
	}
	if err := r.fail(ctx, Get, first); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := r.s.look(key); err != nil {
			return nil, err
		}
		r.note(key)
	}
	if len(keys) > 0 {
		if err := r.s.travel(ctx, TripGetMany); err != nil {
			return nil, err
		}
	}
	v, err := r.in.GetMany(ctx, keys)
	return v, r.gen.err(err)
}

// Scan implements engine.Reader.
func (r *reader) Scan(ctx context.Context, q engine.Range) engine.Iterator {
	if err := r.fail(ctx, Scan, q.Begin); err != nil {
		return failed{err}
	}
	if r.size != nil && q.OneKey() && !q.NoConflict {
		r.size.ReadKey(len(q.Begin)) // it is read as a key
	}
	p := r.s.open(q)
	if p != nil {
		q.KeysOnly = false // the values come all the same, and fill the page
	}
	return &iterator{r: r, ctx: ctx, in: r.in.Scan(ctx, q), pages: p}
}

// failed is an iterator that could not be opened.
type failed struct{ err error }

func (f failed) Next() bool    { return false }
func (f failed) Key() []byte   { return nil }
func (f failed) Value() []byte { return nil }
func (f failed) Err() error    { return f.err }
func (f failed) Close() error  { return f.err }

// iterator is an engine.Iterator that may fail at any step.
type iterator struct {
	r   *reader
	ctx context.Context
	in  engine.Iterator

	pages *pages

	on  bool // at a row
	err error
}

// Next implements engine.Iterator.
func (it *iterator) Next() bool {
	if it.err != nil {
		return false
	}
	var at []byte
	if it.on {
		at = it.in.Key()
	}
	if it.err = it.r.fail(it.ctx, Next, at); it.err != nil {
		return false
	}
	if it.err = it.pages.next(it.ctx); it.err != nil {
		return false
	}
	if it.on = it.in.Next(); it.on {
		it.pages.took(it.in.Key(), it.in.Value())
		it.err = it.r.s.look(it.in.Key())
		it.on = it.err == nil
	}
	return it.on
}

// Key implements engine.Iterator.
func (it *iterator) Key() []byte { return it.in.Key() }

// Value implements engine.Iterator.
func (it *iterator) Value() []byte { return it.in.Value() }

// Err implements engine.Iterator.
func (it *iterator) Err() error {
	if it.err != nil {
		return it.err
	}
	return it.r.gen.err(it.in.Err())
}

// Close implements engine.Iterator.
func (it *iterator) Close() error {
	err := it.in.Close()
	if it.err != nil {
		return it.err
	}
	return it.r.gen.err(err)
}

// snapshot is an engine.Snapshot with faults.
type snapshot struct {
	reader
	in engine.Snapshot
}

// Close implements engine.Snapshot.
func (s *snapshot) Close() { s.in.Close() }
