//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

const (
	// lateMax is how long a commit may be on its way to the database at most. A transaction ends at txnAge.
	lateMax = 3 * time.Second
	txnAge  = 5 * time.Second
	// lateFor is for how long commits come late at most: longer than terms and short leases.
	lateFor = 3 * time.Second
)

// lateStore is the database as one life of a pod has it. Its commits may be late: what has been sent happens, whatever
// has become of the pod, or of the context of its call, by then. Its recent states may be old (RecentSnapshot).
type lateStore struct {
	shared
	rnd *rand.Rand

	mu sync.Mutex
	by time.Duration // how late a commit is at most
	// newest is the newest state that the pod has read or made, of the time at.
	newest engine.Snapshot
	at     time.Time
}

func (s *lateStore) setLate(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by = by
}

// delay is how late the next commit is: any time up to what is set, so that commits overtake each other.
func (s *lateStore) delay() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == 0 {
		return 0
	}
	return between(s.rnd, 0, s.by)
}

// Begin implements engine.Store.
func (s *lateStore) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := s.shared.Begin(ctx)
	if err != nil {
		return nil, err
	}
	s.renew()
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
	by := t.s.delay()
	if by == 0 {
		p, err := t.Txn.Commit(ctx)
		if err == nil {
			t.s.renew()
		}
		return p, err
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
			t.s.renew()
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
	commitsBy(p, between(r, lateMax/10, lateMax), between(r, 50*time.Millisecond, lateFor))
}

// commitsBy is lateCommits with commits that are late by so much at most, during so long.
func commitsBy(p *pod, late, during time.Duration) {
	s := p.life.db
	s.setLate(late)
	time.Sleep(during)
	s.setLate(0)
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

// leasesEndLate is partedAndLate for a lease keeper: leases end, as nobody can keep them alive, about when its term
// does, since its renewals are late; and what it does about them may come after another has them, who is asked.
func leasesEndLate(_ context.Context, p *pod, r *rand.Rand) error {
	defer partNow(p, true, true)()
	time.Sleep(between(r, pauseMax/8, pauseMax/2))
	commitsBy(p, between(r, lateMax*2/3, lateMax), between(r, lateFor/3, lateFor))
	return nil
}
