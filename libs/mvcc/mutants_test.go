package mvcc_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestOutageIsOver: after the first commit that follows an outage a slow commit is waited for again.
func TestOutageIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, slow atomic.Bool
		e := faults.New(openEngine(t, pebble.Options{Sparse: true, NotPipelined: true}), faults.Options{
			Delay: func(_ context.Context, op faults.Op) {
				if op == faults.Commit && slow.Load() {
					time.Sleep(3 * time.Second)
				}
			},
			Script: func(faults.Call) (faults.Fault, bool) {
				if out.Load() {
					return faults.Unavailable, true
				}
				return faults.None, true
			},
		})
		s := open(t, e, mvcc.Options{})
		out.Store(true)
		for range 2 {
			if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k")}); err == nil {
				t.Fatal("it is written in an outage")
			}
		}
		time.Sleep(10 * time.Second) // what is under way ends
		out.Store(false)
		put(t, s, "first", "")
		slow.Store(true)
		put(t, s, "slow", "")
	})
}

// TestHotGroupIsCut: a group that conflicts twice in a row runs in halves.
func TestHotGroupIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits atomic.Int64 // since the first of the five has come
		e := faults.New(openEngine(t, pebble.Options{Sparse: true, NotPipelined: true}), faults.Options{
			Delay: func(_ context.Context, op faults.Op) {
				if op == faults.Commit && commits.Add(1) == 1 {
					time.Sleep(time.Millisecond)
				}
			},
			Script: func(c faults.Call) (faults.Fault, bool) {
				if n := commits.Load(); c.Op == faults.Commit && (n == 2 || n == 3) {
					return faults.Conflict, true
				}
				return faults.None, true
			},
		})
		s := open(t, asking{e}, mvcc.Options{})
		put(t, s, "k", "")
		before := s.Writes().Requests.Read()
		commits.Store(0)
		var puts sync.WaitGroup
		for i := range 5 { // the first is in its commit while the others come
			puts.Go(func() { put(t, s, fmt.Sprint(i), "") })
			synctest.Wait()
		}
		puts.Wait()
		after := s.Writes().Requests.Read()
		if groups, requests := after.Count-before.Count, after.Sum-before.Sum; groups != 3 || requests != 5 {
			t.Errorf("%d groups with %d requests, want one with 1, and after two conflicts two with 2", groups,
				requests)
		}
	})
}
