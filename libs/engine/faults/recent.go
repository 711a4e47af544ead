package faults

import (
	"context"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// spare is a transaction of the inner store that was begun after the newest commit and waits to be used: by then its
// state may be outdated.
type spare struct {
	mu  sync.Mutex
	txn engine.Txn // nil: none
	// begun is when it was begun.
	begun time.Time
}

// take returns the transaction, if there is one, which is then the caller's.
func (p *spare) take() (t engine.Txn, begun time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t = p.txn
	p.txn = nil
	return t, p.begun
}

// drop discards it.
func (p *spare) drop() {
	if t, _ := p.take(); t != nil {
		t.Discard()
	}
}

// renew begins another one after a commit. Without a store there is none.
func (p *spare) renew(ctx context.Context, inner engine.Store) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.txn != nil {
		p.txn.Discard()
	}
	p.begun = time.Now()
	if p.txn, _ = inner.Begin(ctx); ctx.Err() != nil && p.txn != nil {
		p.txn.Discard()
		p.txn = nil
	}
}

var _ engine.RecentBeginner = (*Store)(nil)

// BeginRecent implements engine.RecentBeginner: with Options.Recent by a transaction that was begun after the newest
// commit, once; else as the inner store does, if it does.
func (s *Store) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	if s.ask(ctx, Begin, nil) == Unavailable {
		return nil, false, engine.ErrUnavailable
	}
	inner, gen, err := s.current()
	if err != nil {
		return nil, false, err
	}
	x, begun := s.spare.take()
	if r, ok := inner.(engine.RecentBeginner); ok && x == nil {
		begun = time.Now()
		if x, _, err = r.BeginRecent(ctx); err != nil {
			return nil, false, gen.err(err)
		}
	}
	if x == nil {
		return nil, false, nil
	}
	return newTxn(s, gen, x, begun), true, nil
}

// committed is called after each commit that is known to have happened.
func (s *Store) committed() {
	if !s.o.Recent {
		return
	}
	if inner, gen, err := s.current(); err == nil {
		s.spare.renew(gen.ctx, inner)
	}
}
