package testengine

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// bubbleLook is how often a wait for a change looks by itself, in the bubble's time: for a commit whose outcome
// nobody waited for.
const bubbleLook = time.Second

// OpenInBubble is Open for the bubble of testing/synctest in which it is called. A goroutine that waits for the
// cluster is not durably blocked, so that the bubble's clock stands still meanwhile: in the bubble the cluster takes
// no time. Only a wait for a change must not be left to the cluster, or the clock would stand still until there is
// one. The bubble sees to that itself, since all who write to the store are in it.
func OpenInBubble(tb testing.TB, seed uint64) engine.Store {
	tb.Helper()
	s := Open(tb, seed)
	if Chosen() == Pebble {
		return s
	}
	return &bubble{Store: s, changed: make(chan struct{})}
}

// bubble is a store whose commits wake those who wait for a change.
type bubble struct {
	engine.Store

	mu      sync.Mutex
	changed chan struct{} // closed and replaced by every commit
}

func (b *bubble) change() (changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *bubble) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// WaitChange implements engine.Store.
func (b *bubble) WaitChange(ctx context.Context, key, old []byte) error {
	timer := time.NewTicker(bubbleLook)
	defer timer.Stop()
	for {
		changed := b.change() // before the look
		now, err := b.get(ctx, key)
		if err != nil || (now == nil) != (old == nil) || !bytes.Equal(now, old) {
			return err
		}
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *bubble) get(ctx context.Context, key []byte) ([]byte, error) {
	snap, err := b.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	return snap.Get(ctx, key)
}

// Begin implements engine.Store.
func (b *bubble) Begin(ctx context.Context) (engine.Txn, error) {
	x, err := b.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return bubbleTxn{x, b}, nil
}

type bubbleTxn struct {
	engine.Txn
	b *bubble
}

// Commit implements engine.Txn.
func (t bubbleTxn) Commit(ctx context.Context) (engine.Pending, error) {
	p, err := t.Txn.Commit(ctx)
	if err != nil {
		return nil, err
	}
	return bubblePending{p, t.b}, nil
}

type bubblePending struct {
	engine.Pending
	b *bubble
}

// Wait implements engine.Pending.
func (p bubblePending) Wait(ctx context.Context) (engine.Stamp, error) {
	defer p.b.wake()
	return p.Pending.Wait(ctx)
}
