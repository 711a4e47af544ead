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
	// leaseMin and leaseMax are how long leases live without a keep-alive: the least is what a keeper grants. A lease
	// keeper whose term is not renewed has been replaced after termAndTakeover.
	leaseMin        = 2 * time.Second
	leaseMax        = leaseTTL * time.Second
	termAndTakeover = 2 * time.Second
)

// lateStore is the database as one life of a pod has it. Its commits may be late: what has been sent happens, whatever
// has become of the pod, or of the context of its call, by then. Its recent states may be old (RecentSnapshot).
type lateStore struct {
	shared
	rnd *rand.Rand

	mu sync.Mutex
	by time.Duration // how late a commit is at most
	// held, if not nil, is closed when the commits that have been sent meanwhile may go on.
	held  chan struct{}
	under sync.WaitGroup // late commits that are on their way
	// newest is the newest state that the pod has read or made, of the time at.
	newest engine.Snapshot
	at     time.Time
}

func (s *lateStore) setLate(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by = by
}

// hold keeps all commits from now on, as a connection does that is stuck, until release is called: then all of them go
// on at once. Reads are answered meanwhile.
func (s *lateStore) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held = held
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = nil
		close(held)
	}
}

// late returns what the next commit waits for; nil: nothing. It is late by any time up to what is set, so that commits
// overtake each other, or until those that are held go on.
func (s *lateStore) late() (wait func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.held != nil:
		held := s.held
		return func() { <-held }
	case s.by != 0:
		by := between(s.rnd, 0, s.by)
		return func() { time.Sleep(by) }
	}
	return nil
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
	wait := t.s.late()
	if wait == nil {
		p, err := t.Txn.Commit(ctx)
		if err == nil {
			t.s.renew()
		}
		return p, err
	}
	t.sent = true
	p := &latePending{done: make(chan struct{})}
	t.s.under.Go(func() {
		defer close(p.done)
		wait()
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
	})
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
	s.under.Wait()
}

// partedAndLate parts a pod from all others, and has its commits come late after a while. What it decided while nobody
// reached it comes when others have taken its place.
func partedAndLate(_ context.Context, p *pod, r *rand.Rand) error {
	defer partNow(p, true, true)()
	time.Sleep(between(r, 0, pauseMax/2))
	lateCommits(p, r)
	return nil
}

// leasesEndLate is for a lease keeper: leases end there, as nobody can keep them alive, and while their revocations are
// held, with the renewals of the keeper's term, another takes over, who is asked to keep them alive. Then the
// revocations go on.
func leasesEndLate(_ context.Context, p *pod, r *rand.Rand) error {
	defer partNow(p, true, true)()
	time.Sleep(between(r, leaseMin/4, leaseMax))
	s := p.life.db
	release := s.hold()
	time.Sleep(between(r, termAndTakeover, txnAge))
	release()
	s.under.Wait()
	return nil
}
