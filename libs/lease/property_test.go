package lease

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestNeverEarly is the property test: random grants, renewals, revokes and re-grants by concurrent clients, with a
// slow and failing store and restarts of the keeper. What the clients were told is held against when rows vanished.
func TestNeverEarly(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(8) {
		synctest.Test(t, func(t *testing.T) { neverEarly(t, rand.New(rand.NewPCG(seed, round))) })
	}
}

func neverEarly(t *testing.T, r *rand.Rand) {
	s := newFakeStore()
	s.setLatency(time.Duration(r.IntN(50)) * time.Millisecond)
	var failures atomic.Int64 // percent
	failures.Store(r.Int64N(4) * 5)
	restarts := r.IntN(4)
	var rmu sync.Mutex
	random := func(n int) int {
		rmu.Lock()
		defer rmu.Unlock()
		return r.IntN(n)
	}
	s.setFail(func(op string, _ int64) (error, bool) {
		if op == "claim" || op == "leases" || int64(random(100)) >= failures.Load() {
			return nil, true
		}
		return mvcc.ErrUnavailable, random(2) == 0
	})
	conn := &client{fakeStore: s}
	k, stop := run(t, conn, Options{Revokes: 1 + r.IntN(8)})

	var clients sync.WaitGroup
	var keeper atomic.Pointer[Keeper]
	keeper.Store(k)
	const lives = 60 * time.Second
	end := time.Now().Add(lives)
	for id := int64(1); id <= 30; id++ {
		clients.Go(func() {
			for time.Now().Before(end) {
				oneLease(t, s, &keeper, id, random)
			}
		})
	}
	for range restarts {
		time.Sleep(time.Duration(random(int(lives / 5))))
		conn.close()
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		conn = &client{fakeStore: s}
		k, stop = run(t, conn, Options{})
		keeper.Store(k)
	}
	clients.Wait()
	failures.Store(0)
	time.Sleep(30 * time.Second)
	synctest.Wait()
	if n, active := s.count(), k.Stats().Active; n != 0 || active != 0 {
		t.Errorf("%d rows, %d leases left in the end", n, active)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// oneLease grants a lease, renews it for a while, and revokes it or lets it expire. It checks that the row stays until
// the last promise has run out, and that it is gone soon after.
func oneLease(t *testing.T, s *fakeStore, keeper *atomic.Pointer[Keeper], id int64, random func(int) int) {
	ctx := t.Context()
	g, err := keeper.Load().Grant(ctx, id, int64(1+random(5)))
	if err != nil {
		time.Sleep(time.Second)
		return
	}
	ttl := time.Duration(g.TTL) * time.Second
	promise := time.Now().Add(ttl)
	for random(8) > 0 {
		time.Sleep(time.Duration(random(int(ttl) * 5 / 4)))
		asked := time.Now()
		got, err := keeper.Load().Renew(ctx, id)
		switch {
		case err != nil: // the keeper was stopped meanwhile
			time.Sleep(10 * time.Millisecond)
		case got == 0:
			if asked.Before(promise) {
				t.Errorf("lease %d: told at %v that it is gone, %v before its time", id, asked, promise.Sub(asked))
			}
			if s.has(id) {
				t.Errorf("lease %d: told that it is gone, but the store has it", id)
			}
			return
		case !s.has(id):
			t.Errorf("lease %d: renewed, but the store does not have it", id)
		default:
			promise = asked.Add(ttl)
		}
	}
	if random(2) == 0 {
		_, err := keeper.Load().Revoke(ctx, id)
		if err == nil && s.has(id) {
			t.Errorf("lease %d: revoked, but the store has it", id)
		}
		if errors.Is(err, mvcc.ErrLeaseNotFound) && time.Now().Before(promise) {
			t.Errorf("lease %d: not there before its time", id)
		}
		return
	}
	for s.has(id) {
		time.Sleep(50 * time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := s.revokes[id]; at.Before(promise) {
		t.Errorf("lease %d: revoked %v before its time", id, promise.Sub(at))
	}
}
