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
	if _, ok := shared.(engine.RecentSnapshotter); ok {
		shared = recents{shared}
	}
	return &View{Store: faults.New(shared, o), g: g, shared: shared}
}

type recentKey struct{}

// recents is an engine that offers recent states to calls of Snapshot whose context asks for one, so that they have
// the faults of the others.
type recents struct{ engine.Store }

// Snapshot implements engine.Store.
func (r recents) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	if ctx.Value(recentKey{}) != nil {
		return r.Store.(engine.RecentSnapshotter).RecentSnapshot(ctx)
	}
	return r.Store.Snapshot(ctx)
}

// Whole is a View whose domains, through which keyspaces are read and written, are behind the gate too, and which
// offers recent states, if the engine does. The domains of a View alone pass the gate when a call begins, and not when
// it ends.
type Whole struct{ *View }

// RecentSnapshot implements engine.RecentSnapshotter: on an engine that does not, a Snapshot.
func (w Whole) RecentSnapshot(ctx context.Context) (engine.Snapshot, error) {
	return w.Snapshot(context.WithValue(ctx, recentKey{}, true))
}

// Domain implements engine.Domains.
func (w Whole) Domain(prefix []byte) engine.Store { return domain{w, engine.Domain(w.Store, prefix)} }

// domain is the view as one of the engine's domains sees it.
type domain struct {
	Whole
	in engine.Store
}

// Begin implements engine.Store.
func (d domain) Begin(ctx context.Context) (engine.Txn, error) { return d.begin(ctx, d.in) }

// BeginRecent implements engine.RecentBeginner.
func (d domain) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	return d.beginRecent(ctx, d.in.(engine.RecentBeginner))
}

// Close implements engine.Store: it does nothing.
func (d domain) Close() error { return nil }

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
func (v *View) Begin(ctx context.Context) (engine.Txn, error) { return v.begin(ctx, v.Store) }

func (v *View) begin(ctx context.Context, in engine.Store) (engine.Txn, error) {
	t, err := in.Begin(ctx)
	v.g.Pass()
	if err != nil {
		return nil, err
	}
	return viewTxn{t, v.g}, nil
}

// BeginRecent implements engine.RecentBeginner.
func (v *View) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	return v.beginRecent(ctx, v.Store)
}

func (v *View) beginRecent(ctx context.Context, in engine.RecentBeginner) (engine.Txn, bool, error) {
	t, ok, err := in.BeginRecent(ctx)
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

// Vital implements engine.Vital.
func (t viewTxn) Vital() {
	if v, ok := t.Txn.(engine.Vital); ok {
		v.Vital()
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
