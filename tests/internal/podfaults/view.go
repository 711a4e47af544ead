package podfaults

import (
	"context"
	"errors"
	"sync"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
)

// View is one pod's view of an engine that pods share. It adds faults of its own, and every call that takes time passes
// the pod's gate before and after.
type View struct {
	*faults.Store
	g      *Gate
	shared engine.Store

	mu   sync.Mutex
	cuts int // how many cuts are not over
	dead bool
}

// NewView makes a view with the faults of o. Its Close closes shared, so pass a store whose Close does not affect
// others.
func NewView(shared engine.Store, g *Gate, o faults.Options) *View {
	delay := o.Delay
	o.Delay = func(ctx context.Context, op faults.Op) {
		g.Pass()
		if delay != nil {
			delay(ctx, op)
		}
	}
	return &View{Store: faults.New(shared, o), g: g, shared: shared}
}

// Kill makes all calls fail for ever, those under way included. What has been sent to the database may still happen.
// The error of later calls tells what is left of the pod not to try again, so that it ends soon.
func (v *View) Kill() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dead = true
	v.Crash()
	v.Restart(closed{v.shared})
}

// Cut takes the database away until restore is called. Clients and other pods still reach the pod. Each cut has a
// restore of its own; the database is back when all have been called.
func (v *View) Cut() (restore func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.cuts++; v.cuts == 1 && !v.dead {
		v.Crash()
	}
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.cuts--; v.cuts == 0 && !v.dead {
			v.Restart(v.shared)
		}
	}
}

// closed is an engine that has been closed.
type closed struct{ engine.Store }

// Snapshot implements engine.Store.
func (closed) Snapshot(context.Context) (engine.Snapshot, error) { return nil, engine.ErrClosed }

// Begin implements engine.Store.
func (closed) Begin(context.Context) (engine.Txn, error) { return nil, engine.ErrClosed }

// WaitChange implements engine.Store.
func (closed) WaitChange(context.Context, []byte, []byte) error { return engine.ErrClosed }

// Begin implements engine.Store.
func (v *View) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := v.Store.Begin(ctx)
	v.g.Pass()
	if err != nil {
		return nil, err
	}
	return viewTxn{t, v.g}, nil
}

// BeginRecent implements engine.RecentBeginner.
func (v *View) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	t, ok, err := v.Store.BeginRecent(ctx)
	v.g.Pass()
	if !ok || err != nil {
		return nil, false, err
	}
	return viewTxn{t, v.g}, true, nil
}

// WaitChange implements engine.Store.
func (v *View) WaitChange(ctx context.Context, key, old []byte) error {
	err := v.Store.WaitChange(ctx, key, old)
	v.g.Pass()
	return err
}

type viewTxn struct {
	engine.Txn
	g *Gate
}

// Shrinks implements engine.Shrinker.
func (t viewTxn) Shrinks() {
	if s, ok := t.Txn.(engine.Shrinker); ok {
		s.Shrinks()
	}
}

// Fork implements engine.Forker, if the engine does.
func (t viewTxn) Fork(ctx context.Context) (engine.Txn, error) {
	f, ok := t.Txn.(engine.Forker)
	if !ok {
		return nil, errors.New("podfaults: the engine's transactions cannot be forked")
	}
	x, err := f.Fork(ctx)
	if err != nil {
		return nil, err
	}
	return viewTxn{x, t.g}, nil
}

// Commit implements engine.Txn.
func (t viewTxn) Commit(ctx context.Context) (engine.Pending, error) {
	p, err := t.Txn.Commit(ctx)
	if err != nil {
		return nil, err
	}
	return viewPending{p, t.g}, nil
}

type viewPending struct {
	engine.Pending
	g *Gate
}

// Wait implements engine.Pending. A paused pod learns the outcome when it goes on.
func (p viewPending) Wait(ctx context.Context) (engine.Stamp, error) {
	st, err := p.Pending.Wait(ctx)
	p.g.Pass()
	return st, err
}
