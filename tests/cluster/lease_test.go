package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/leases"
)

const (
	leaseCount  = 24
	leaseTTLMin = 2 // seconds
	leaseTTLMax = 3
	// leaseSlack is how late a client may see an expiry. If the owner changes, a takeover and another TTL go by
	// first.
	leaseSlack = time.Minute
	// leaseFaultGap is the time between two faults.
	leaseFaultMin, leaseFaultMax = 100 * time.Millisecond, 600 * time.Millisecond
)

// TestLeases holds leases while lease keepers and the other pods are killed, paused and drained. No lease ends earlier
// than its TTL after the last answered keep-alive. Every lease ends when nobody keeps it alive any more.
func TestLeases(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStack(t)
	if err := s.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := s.addrs(kv, hub, keeper)
	watcher, reader := s.client(all...), s.client(s.addrs(kv)...)
	gone := leases.Watch(t.Context(), watcher)
	defer gone.Close()
	clock := leases.StartClock(t.Context(), reader, leases.ClockPeriod)
	defer clock.Close()

	sd := s.seedOf("leases")
	until := time.Now().Add(*durationFlag * 3 / 4)
	lives := make([]*leases.Life, leaseCount)
	errs := make([]error, leaseCount)
	var wg sync.WaitGroup
	for i := range lives {
		rnd := rand.New(rand.NewPCG(sd, uint64(i+1)))
		addrs := all // two clients of four go on elsewhere when their pod is gone
		switch i % 4 {
		case 0: // at one keeper always, so that a deposed one is asked
			addrs = s.addrs(keeper)[i/4%podsPerRole:][:1]
		case 2:
			addrs = all[i/4%len(all):][:1]
		}
		cli := s.client(addrs...)
		wg.Go(func() {
			end := time.Now().Add(time.Until(until)/4 + time.Duration(rnd.Int64N(int64(time.Until(until)))))
			ttl := leases.TTL(rnd, leaseTTLMin, leaseTTLMax)
			lives[i], errs[i] = leases.Live(t.Context(), cli, fmt.Sprintf("%02d", i), ttl, end)
		})
	}
	rnd := rand.New(rand.NewPCG(sd, 0))
	faults, err := s.inject(t.Context(), rnd, leaseFaults(), func() bool { return time.Now().Before(until) },
		func() error { return wait(t.Context(), rnd, leaseFaultMin, leaseFaultMax) })
	if err != nil {
		t.Error(err)
	}
	wg.Wait()
	over := time.Now()
	for i, l := range lives {
		err := errs[i]
		if err == nil {
			err = l.Ended(t.Context(), reader, gone, clock, over.Add(l.TTL+leaseSlack))
		}
		if err != nil {
			t.Errorf("lease %d (%x, TTL %v, key %s): %v", i, l.ID, l.TTL, l.Keys[0], err)
		}
	}
	if t.Failed() {
		keepJSON(t, filepath.Join(s.dir, "lives.json"), lives)
		keepLog(t, s)
	}
	t.Logf("%d leases, the last one gone %v after the last fault\n%v", len(lives),
		time.Since(over).Round(time.Millisecond), ofLeases(lives, faults))
}

// leaseFaults are the faults that can affect leases.
func leaseFaults() []fault {
	return slices.Concat(podFaults("keeper", keeper, keeperPauseMax, anyOf(keeper)),
		podFaults("kv", kv, pauseMax, anyOf(kv)))
}

// keepLog saves the keyspace's log.
func keepLog(t *testing.T, s *stack) {
	t.Helper()
	log, err := s.log(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Error(err)
		return
	}
	keepJSON(t, filepath.Join(s.dir, "log.json"), log)
}
