package mvcc_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestRecentHead: it is never below what this Store has answered with, is at most RecentHeadMax behind what others
// write, and one read serves all who ask.
func TestRecentHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const trip = time.Millisecond
		inner := openPebble(t, pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true, Seed: 1})
		e := faults.New(inner,
			faults.Options{Remote: &faults.Remote{Latency: faults.Everywhere(faults.Delay{Fixed: trip})}})
		s, other := open(t, e, mvcc.Options{NoRemoval: true}), open(t, inner, mvcc.Options{NoRemoval: true})
		recent := func() int64 {
			t.Helper()
			rev, err := s.RecentHead(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return rev
		}
		write := func(s *mvcc.Store) int64 {
			t.Helper()
			res, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k")})
			if err != nil {
				t.Fatal(err)
			}
			return res.Rev
		}
		first := write(other)
		if got := recent(); got != first {
			t.Errorf("the first answer is %d, the head %d", got, first)
		}
		for range 10 {
			write(other)
			if own := write(s); recent() < own {
				t.Errorf("below the answer %d of a put", own)
			}
			head, err := s.Head(t.Context())
			if err != nil || recent() < head {
				t.Errorf("below the answer %d of a read (%v)", head, err)
			}
		}

		// Under load nobody waits, and answers are a little old.
		head, begun := write(other), time.Now()
		before := e.Trips()
		for range 1000 {
			recent()
			time.Sleep(trip)
		}
		if reads := e.Trips().Since(before)[faults.TripVersion]; reads > 12 {
			t.Errorf("%d reads in a second", reads)
		}
		if took := time.Since(begun); took != 1000*trip {
			t.Errorf("someone waited: %v", took)
		}
		if got := recent(); got != head {
			t.Errorf("got %d, the head was %d a second ago", got, head)
		}

		// After a while without any, all wait for one read.
		head = write(other)
		time.Sleep(mvcc.RecentHeadMax)
		before = e.Trips()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if got := recent(); got != head {
					t.Errorf("got %d, the head was %d a second ago", got, head)
				}
			})
		}
		wg.Wait()
		if reads := e.Trips().Since(before)[faults.TripVersion]; reads != 1 {
			t.Errorf("%d reads for 100", reads)
		}

		// One who goes away does not take the read along; a store that is away is told.
		time.Sleep(mvcc.RecentHeadMax)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.RecentHead(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone away: %v", err)
		}
		if got := recent(); got != head {
			t.Errorf("got %d, the head is %d", got, head)
		}
		time.Sleep(2 * mvcc.RecentHeadMax)
		e.Crash()
		if _, err := s.RecentHead(t.Context()); !errors.Is(err, mvcc.ErrUnavailable) {
			t.Errorf("a store that cannot be reached: %v", err)
		}
		e.Restart(inner)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * mvcc.RecentHeadMax)
		if _, err := s.RecentHead(t.Context()); !errors.Is(err, mvcc.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestRecentHeadOfSlowStore: a read of the head that takes longer than an answer may be old is an answer all the same,
// to whoever called before it began.
func TestRecentHeadOfSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := openPebble(t, pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true, Seed: 1})
		slow := faults.Latency{faults.TripVersion: {Fixed: 2 * mvcc.RecentHeadMax}}
		e := faults.New(inner, faults.Options{Remote: &faults.Remote{Latency: slow}})
		s, other := open(t, e, mvcc.Options{NoRemoval: true}), open(t, inner, mvcc.Options{NoRemoval: true})
		for range 2 {
			res, err := other.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k")})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if got, err := s.RecentHead(ctx); err != nil || got != res.Rev {
				t.Errorf("got %d, %v, the head is %d", got, err, res.Rev)
			}
			cancel()
			time.Sleep(time.Minute)
		}
	})
}
