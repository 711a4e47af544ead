package faults

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/txnsize"
)

// txn is an engine.Txn with faults. Mutations go to the inner transaction as they are.
type txn struct {
	reader
	engine.Txn
	size txnsize.Size
}

func newTxn(s *Store, gen *generation, in engine.Txn, begun time.Time) *txn {
	t := &txn{reader: reader{s: s, gen: gen, in: in, begun: begun}, Txn: in}
	t.reader.size = &t.size
	if s.wire != nil {
		t.size.Root = s.wire.RootBytes
	}
	return t
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

// Fork implements engine.Forker, if the inner engine does. A fork has the age of what it was made of.
func (t *txn) Fork(ctx context.Context) (engine.Txn, error) {
	f, ok := t.Txn.(engine.Forker)
	if !ok {
		return nil, errors.New("faults: the inner engine's transactions cannot be forked")
	}
	x, err := f.Fork(ctx)
	if err != nil {
		return nil, t.gen.err(err)
	}
	return newTxn(t.s, t.gen, x, t.begun), nil
}

// Commit implements engine.Txn.
func (t *txn) Commit(ctx context.Context) (engine.Pending, error) { return t.commit(ctx, t.Txn) }

// commit commits the transaction for in, which is that of one of its domains.
func (t *txn) commit(ctx context.Context, in engine.Txn) (engine.Pending, error) {
	f := t.s.ask(ctx, Commit, nil)
	if t.gen.ctx.Err() != nil {
		f = Unavailable
	}
	if err := early(f); err != nil {
		t.Txn.Discard()
		return nil, err
	}
	var due time.Time
	if t.size.Changes() > 0 {
		due = t.s.send(TripCommit)
	}
	err := late(f)
	if err == nil {
		err = t.refused()
	}
	if err != nil {
		t.Txn.Discard()
		return settled{err, due}, nil //nolint:nilerr // Wait returns it
	}
	p, err := in.Commit(ctx)
	switch {
	case err == nil:
		return &pending{s: t.s, in: p, gen: t.gen, unknown: f == UnknownCommitted, due: due}, nil
	case t.s.wire != nil && isLate(err):
		return settled{err, due}, nil
	}
	return nil, t.gen.err(err)
}

// refused is why a store over a network would not take the commit.
func (t *txn) refused() error {
	switch {
	case t.s.wire == nil || t.size.Changes() == 0:
		return nil
	case t.size.Bytes() > t.s.wire.TxnBytes:
		return fmt.Errorf("faults: a transaction of %d bytes: %w", t.size.Bytes(), engine.ErrTooLarge)
	case t.s.aged(t.begun):
		return engine.ErrTooOld
	}
	return nil
}

// isLate says that an error comes from the cluster: what a client finds out by itself it says at once.
func isLate(err error) bool {
	return errors.Is(err, engine.ErrConflict) || errors.Is(err, engine.ErrTooOld) || errors.Is(err, engine.ErrNoSpace)
}

// early is the error that a fault makes of Commit, late that of Wait where nothing happens.
func early(f Fault) error {
	return map[Fault]error{
		Conflict: engine.ErrConflict, TooOld: engine.ErrTooOld, TooLarge: engine.ErrTooLarge,
		NoSpace: engine.ErrNoSpace, Unavailable: engine.ErrUnavailable,
	}[f]
}

func late(f Fault) error {
	return map[Fault]error{
		LateConflict: engine.ErrConflict, LateTooOld: engine.ErrTooOld, LateTooLarge: engine.ErrTooLarge,
		LateNoSpace: engine.ErrNoSpace, UnknownLost: engine.ErrUnknownOutcome,
	}[f]
}

// settled is a commit that did not happen.
type settled struct {
	err error
	due time.Time
}

// Wait implements engine.Pending.
func (s settled) Wait(ctx context.Context) (engine.Stamp, error) {
	if err := await(ctx, s.due); err != nil {
		return engine.Stamp{}, err
	}
	return engine.Stamp{}, s.err
}

// pending is a commit that happens.
type pending struct {
	s       *Store
	in      engine.Pending
	gen     *generation
	unknown bool
	due     time.Time
	first   engine.Stamp // what Wait has returned
}

// Wait implements engine.Pending. A crash leaves the outcome unknown.
func (p *pending) Wait(ctx context.Context) (engine.Stamp, error) {
	ctx, cancel := p.gen.join(ctx)
	defer cancel()
	_ = await(ctx, p.due) // the commit ends all the same: the inner Wait says what became of it
	st, err := p.in.Wait(ctx)
	switch {
	case err != nil:
		return engine.Stamp{}, p.gen.err(err)
	case p.unknown:
		return engine.Stamp{}, engine.ErrUnknownOutcome
	}
	p.first = st
	p.s.committed()
	return st, nil
}
