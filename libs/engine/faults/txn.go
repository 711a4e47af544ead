package faults

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// txn is an engine.Txn with faults. Mutations go to the inner transaction as they are.
type txn struct {
	reader
	engine.Txn
}

// The readers of a transaction are those with faults.

// Version implements engine.Reader.
func (t *txn) Version() uint64 { return t.reader.Version() }

// Get implements engine.Reader.
func (t *txn) Get(ctx context.Context, key []byte) ([]byte, error) { return t.reader.Get(ctx, key) }

// GetMany implements engine.Reader.
func (t *txn) GetMany(ctx context.Context, keys [][]byte) ([][]byte, error) {
	return t.reader.GetMany(ctx, keys)
}

// Scan implements engine.Reader.
func (t *txn) Scan(ctx context.Context, q engine.Range) engine.Iterator { return t.reader.Scan(ctx, q) }

// Shrinks passes the mark of a transaction that frees space on to an engine that knows it.
func (t *txn) Shrinks() {
	if s, ok := t.Txn.(interface{ Shrinks() }); ok {
		s.Shrinks()
	}
}

// Vital does the same for what leads out of a full disk.
func (t *txn) Vital() {
	if v, ok := t.Txn.(engine.Vital); ok {
		v.Vital()
		return
	}
	t.Shrinks()
}

// Commit implements engine.Txn.
func (t *txn) Commit(ctx context.Context) (engine.Pending, error) {
	f := t.s.ask(ctx, Commit, nil)
	if t.gen.ctx.Err() != nil {
		f = Unavailable
	}
	switch f {
	case Conflict:
		return t.drop(engine.ErrConflict)
	case TooOld:
		return t.drop(engine.ErrTooOld)
	case Unavailable:
		return t.drop(engine.ErrUnavailable)
	case LateConflict:
		t.Txn.Discard()
		return settled{engine.ErrConflict}, nil
	case UnknownLost:
		t.Txn.Discard()
		return settled{engine.ErrUnknownOutcome}, nil
	}
	p, err := t.Txn.Commit(ctx)
	if err != nil {
		return nil, t.gen.err(err)
	}
	return &pending{s: t.s, in: p, gen: t.gen, unknown: f == UnknownCommitted}, nil
}

func (t *txn) drop(err error) (engine.Pending, error) {
	t.Txn.Discard()
	return nil, err
}

// settled is a commit that did not happen.
type settled struct{ err error }

// Wait implements engine.Pending.
func (s settled) Wait(context.Context) (engine.Stamp, error) { return engine.Stamp{}, s.err }

// pending is a commit that happens.
type pending struct {
	s       *Store
	in      engine.Pending
	gen     *generation
	unknown bool
}

// Wait implements engine.Pending. A crash leaves the outcome unknown.
func (p *pending) Wait(ctx context.Context) (engine.Stamp, error) {
	ctx, cancel := p.gen.join(ctx)
	defer cancel()
	st, err := p.in.Wait(ctx)
	switch {
	case err != nil:
		return engine.Stamp{}, p.gen.err(err)
	case p.unknown:
		return engine.Stamp{}, engine.ErrUnknownOutcome
	}
	p.s.committed()
	return st, nil
}
