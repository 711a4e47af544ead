package feed

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
)

// TestWindow: the window holds the end of the log without a hole, keeps its bounds, and is not much smaller than they
// allow.
func TestWindow(t *testing.T) {
	for _, seed := range seeds(40) {
		bubble(t, func(t *testing.T, g *group) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			log := newFakeLog()
			gap := int64(1)
			if rnd.IntN(2) == 0 {
				gap = 1 << rnd.IntN(40)
			}
			n := rnd.IntN(4000)
			for range n {
				log.commit(1 + rnd.Int64N(gap))
			}
			if rnd.IntN(2) == 0 {
				log.remove(log.entries[rnd.IntN(len(log.entries))].Rev)
			}
			limit := 1 + rnd.IntN(2000)
			f, h := start(t, g, log, nil, func(o *FollowerOptions) {
				o.WindowEntries = limit
				if rnd.IntN(2) == 0 {
					o.WindowEntries, o.WindowBytes = 1<<20, 8*limit
				}
			})
			h.check(log)
			got, there := len(h.applied()), len(log.entries)
			if got > limit+1 || got < min(there, limit)/(3*windowStep)-1 || f.Position() != log.headLocked() {
				t.Errorf("-feed.seed=%d: %d entries of %d, bound %d, steps up to %d", seed, got, there, limit, gap)
			}
		})
	}
}

func TestNoWindow(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		head := log.commit(dense(10)...)
		_, h := start(t, g, log, nil, func(o *FollowerOptions) { o.WindowEntries = -1 })
		if starts := h.resets(); starts[0] != head || len(h.applied()) != 0 {
			t.Errorf("starts %v, applied %v", starts, h.applied())
		}
		log.commit(1)
		synctest.Wait()
		h.check(log)
	})
}

// TestDamagedWindow: an old entry that cannot be read does not keep a hub from starting.
func TestDamagedWindow(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		log.commit(dense(10)...)
		log.entries[5].Bytes = []byte("damaged!")
		_, h := start(t, g, log, nil, nil)
		if starts := h.resets(); starts[0] != log.entries[5].Rev {
			t.Errorf("starts %v", starts)
		}
		h.check(log)
	})
}

// TestEmptyWindow: on a new keyspace the position is the head, though there is no entry yet. (It was 0: so cancels
// had revision 0 in their headers, and progress was not answered before the first write.)
func TestEmptyWindow(t *testing.T) {
	bubble(t, func(t *testing.T, g *group) {
		log := newFakeLog()
		log.entries, log.created = nil, 32
		f, h := start(t, g, log, nil, nil)
		if starts := h.resets(); starts[0] != 32 || f.Position() != 32 {
			t.Errorf("starts %v, position %d", starts, f.Position())
		}
		log.commit(100)
		synctest.Wait()
		h.check(log)
	})
}
