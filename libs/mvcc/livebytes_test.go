package mvcc_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// counterOf reads the counter of live bytes from the store.
func counterOf(t *testing.T, e engine.Store) int64 {
	t.Helper()
	snap, err := e.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	row, err := snap.Get(t.Context(), []byte("mlive"))
	if err != nil {
		t.Fatal(err)
	}
	n, ok := engine.ParseCounter(row)
	if !ok {
		t.Fatalf("a counter of %d bytes", len(row))
	}
	return n
}

// TestLiveBytesAfterUnknownRemoval: what a removal has freed is counted once, whether its outcome was told, or not
// known and it had happened, or had not.
func TestLiveBytesAfterUnknownRemoval(t *testing.T) {
	for _, what := range []faults.Fault{faults.UnknownCommitted, faults.UnknownLost} {
		t.Run(fmt.Sprint(what), func(t *testing.T) {
			var armed, met atomic.Int64
			var removal atomic.Bool // the next commit is that of a removal, which has read how far removals have come
			script := func(c faults.Call) (faults.Fault, bool) {
				switch {
				case c.Op == faults.Get && string(c.Key) == "mpart":
					removal.Store(true)
				case c.Op == faults.Commit && removal.Swap(false) && armed.Add(-1) >= 0:
					met.Add(1)
					return what, true
				}
				return faults.None, true
			}
			e := faults.New(openEngine(t, pebble.Options{}), faults.Options{Script: script})
			s := open(t, e, mvcc.Options{})
			for round := range 4 {
				value := strings.Repeat("v", 3000)
				var rev int64
				for i := range 20 {
					rev = put(t, s, fmt.Sprintf("k%d", i%4), value)
				}
				armed.Store(int64(1 + round))
				if _, err := s.Compact(t.Context(), rev, true); err != nil {
					t.Fatal(err)
				}
				armed.Store(0)
				waitFor(t, func() bool { return removedUpTo(t, e, nil) == rev })
				if got, want := s.LiveBytes(), counterOf(t, e); got != want {
					t.Errorf("round %d: %d live bytes, the counter has %d", round, got, want)
				}
			}
			if met.Load() < 4 {
				t.Errorf("only %d faults", met.Load())
			}
			check(t, e, s, nil, true)
		})
	}
}

// TestLiveBytesOfSharedEngine: on an engine that others write to too, what this Store has written is in its live bytes
// at once, and nobody waits while another asks the engine.
func TestLiveBytesOfSharedEngine(t *testing.T) {
	var slow atomic.Bool
	asked, answer := make(chan struct{}), make(chan struct{})
	o := fdb
	e := faults.New(openEngine(t, o), faults.Options{Delay: func(ctx context.Context, op faults.Op) {
		if op == faults.Get && slow.CompareAndSwap(true, false) {
			close(asked)
			<-answer
		}
	}})
	s := open(t, e, mvcc.Options{Shift: 4})
	put(t, s, "a", "1")
	if got, want := s.LiveBytes(), counterOf(t, e); got != want {
		t.Errorf("%d live bytes, the counter has %d", got, want)
	}
	put(t, s, "b", strings.Repeat("v", 3000))
	if got, want := s.LiveBytes(), counterOf(t, e); got != want {
		t.Errorf("%d live bytes with what this store has written, the counter has %d", got, want)
	}
	mvcc.ForgetSizes(s) // as after sizeAge
	slow.Store(true)
	done := make(chan int64, 1)
	go func() { done <- s.LiveBytes() }()
	<-asked
	other := make(chan int64, 1)
	go func() { other <- s.LiveBytes() }()
	select {
	case <-other:
	case <-time.After(2 * time.Minute):
		t.Error("a second caller waits for the first one's answer")
	}
	close(answer)
	<-done
}
