package cluster

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

// badDays are the faults that each pod meets of its own, beside the real conflicts with the others: what a FoundationDB
// cluster in trouble shows, and more of it.
var badDays = faults.Options{Recent: true, Conflict: 0.03, UnknownLost: 0.02, UnknownCommitted: 0.02, TooOld: 0.001, Unavailable: 0.0002}

// view is one pod's view of the shared engine: faults of its own, and the pod's gate before and behind every call that takes time.
type view struct {
	*faults.Store
	g *gate
}

func newView(shared engine.Store, g *gate, seed uint64) *view {
	o := badDays
	o.Seed = seed
	o.Delay = func(context.Context, faults.Op) { g.pass() }
	return &view{Store: faults.New(testengine.Unclosed(shared), o), g: g}
}

// kill makes all calls fail, those under way too. What has been sent to the database may happen. Later calls tell the corpse that there is
// no point in trying again, so that it ends soon.
func (v *view) kill() { v.Restart(closed{v.Crash()}) }

// cut takes the database away until restore is called; clients and other pods still reach the pod.
func (v *view) cut() (restore func()) {
	inner := v.Crash()
	return func() { v.Restart(inner) }
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
func (v *view) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := v.Store.Begin(ctx)
	v.g.pass()
	if err != nil {
		return nil, err
	}
	return viewTxn{t, v.g}, nil
}

// BeginRecent implements engine.RecentBeginner.
func (v *view) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	t, ok, err := v.Store.BeginRecent(ctx)
	v.g.pass()
	if !ok || err != nil {
		return nil, false, err
	}
	return viewTxn{t, v.g}, true, nil
}

// WaitChange implements engine.Store.
func (v *view) WaitChange(ctx context.Context, key, old []byte) error {
	err := v.Store.WaitChange(ctx, key, old)
	v.g.pass()
	return err
}

type viewTxn struct {
	engine.Txn
	g *gate
}

// Shrinks implements engine.Shrinker.
func (t viewTxn) Shrinks() {
	if s, ok := t.Txn.(engine.Shrinker); ok {
		s.Shrinks()
	}
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
	g *gate
}

// Wait implements engine.Pending: a paused pod learns the outcome when it goes on.
func (p viewPending) Wait(ctx context.Context) (engine.Stamp, error) {
	st, err := p.Pending.Wait(ctx)
	p.g.pass()
	return st, err
}
