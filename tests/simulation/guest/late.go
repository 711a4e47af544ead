//go:build wasip1

package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

const (
	// lateMax is how long a commit may be on its way to the database at most. A transaction ends at txnAge.
	lateMax = 3 * time.Second
	txnAge  = 5 * time.Second
)

// lateStore is the database as a pod's commits reach it, which may be late: what has been sent happens, whatever has
// become of the pod, or of the context of its call, by then.
type lateStore struct {
	shared
	by atomic.Int64 // how late commits are
}

// Begin implements engine.Store.
func (s *lateStore) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := s.shared.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &lateTxn{Txn: t, s: s, begun: time.Now()}, nil
}

type lateTxn struct {
	engine.Txn
	s     *lateStore
	begun time.Time
	sent  bool
}

// Discard implements engine.Txn: after Commit it does nothing.
func (t *lateTxn) Discard() {
	if !t.sent {
		t.Txn.Discard()
	}
}

// Commit implements engine.Txn.
func (t *lateTxn) Commit(ctx context.Context) (engine.Pending, error) {
	by := time.Duration(t.s.by.Load())
	if by == 0 {
		return t.Txn.Commit(ctx)
	}
	t.sent = true
	p := &latePending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		time.Sleep(by)
		if time.Since(t.begun) > txnAge {
			t.Txn.Discard()
			p.err = engine.ErrTooOld
			return
		}
		in, err := t.Txn.Commit(context.Background())
		if err == nil {
			p.first, err = in.Wait(context.Background())
		}
		p.err = err
	}()
	return p, nil
}

// latePending is a commit that is on its way.
type latePending struct {
	done  chan struct{}
	first engine.Stamp
	err   error
}

// Wait implements engine.Pending.
func (p *latePending) Wait(ctx context.Context) (engine.Stamp, error) {
	select {
	case <-p.done:
		return p.first, p.err
	case <-ctx.Done():
		return engine.Stamp{}, ctx.Err()
	}
}

// lateCommits has a pod's commits come late for a while. It returns when the last of them has come.
func lateCommits(p *pod, r *rand.Rand) {
	s := p.life.db
	s.by.Store(int64(between(r, lateMax/10, lateMax)))
	time.Sleep(between(r, 50*time.Millisecond, pauseMax/2))
	s.by.Store(0)
	time.Sleep(lateMax)
}

// partedAndLate parts a pod from all others, and has its commits come late after a while. What it decided while nobody
// reached it comes when others have taken its place.
func partedAndLate(_ context.Context, p *pod, r *rand.Rand) error {
	defer partNow(p, true, true)()
	time.Sleep(between(r, 0, pauseMax/2))
	lateCommits(p, r)
	return nil
}
