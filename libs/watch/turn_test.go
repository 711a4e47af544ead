package watch

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// countedTurn counts the turns of passes.
type countedTurn struct {
	entered, inside, charged atomic.Int64
	shut                     chan struct{} // if set, Enter waits for its end
}

func (c *countedTurn) Enter(ctx context.Context, least, _ int64) (int64, error) {
	if c.shut != nil {
		select {
		case <-c.shut:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	c.entered.Add(1)
	c.inside.Add(1)
	return least, nil
}
func (c *countedTurn) Leave()         { c.inside.Add(-1) }
func (c *countedTurn) Charge(n int64) { c.charged.Add(n) }

// TestPassesInTurn: a catch-up pass is made in the hub's turn and pays for what it reads; live events need none; a hub
// that closes while it waits for its turn ends.
func TestPassesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memLog{}
		for range 10 {
			log.add("a", []byte("value"))
		}
		turn := &countedTurn{shut: make(chan struct{})}
		h := New(Options{Log: quietLog(), Passes: turn})
		h.Start(log, 11)
		s, _ := h.Open()
		defer s.Close()
		for _, start := range []int64{5, 0} {
			if err := s.Create(t.Context(), CreateRequest{Key: []byte("a"), StartRevision: start}); err != nil {
				t.Fatal(err)
			}
		}
		h.Apply(log.add("a", nil))
		got := map[int64]int{}
		next := func() {
			turn, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range turn {
				got[r.WatchID] += len(r.Events)
			}
		}
		for got[1] < 1 {
			next()
		}
		synctest.Wait()
		if got[0] != 0 || turn.entered.Load() != 0 {
			t.Errorf("%d events caught up before the hub's turn, %d turns", got[0], turn.entered.Load())
		}
		close(turn.shut)
		for got[0] < 8 {
			next()
		}
		synctest.Wait()
		if turn.entered.Load() == 0 || turn.inside.Load() != 0 || turn.charged.Load() < 7*eventOverhead {
			t.Errorf("%d turns, %d not ended, %d bytes", turn.entered.Load(), turn.inside.Load(), turn.charged.Load())
		}
		h.Close()
		waits := New(Options{Log: quietLog(), Passes: &countedTurn{shut: make(chan struct{})}})
		waits.Start(log, 12)
		w, _ := waits.Open()
		defer w.Close()
		if err := w.Create(t.Context(), CreateRequest{Key: []byte("a"), StartRevision: 3}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		waits.Close()
	})
}
