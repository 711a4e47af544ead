package election

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
)

// TestClock: a term ends by the candidate's own clock. One whose clock has stood still while it was away from the
// store believes that it holds, until its next renewal tells it otherwise.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		own := faults.New(s, faults.Options{})
		var still atomic.Pointer[time.Time]
		clock := func() time.Time {
			if at := still.Load(); at != nil {
				return *at
			}
			return time.Now()
		}
		terms := make(chan *Term, 1)
		stopA := running(t, candidate(t, own, Options{Holder: "a", Now: clock}), leads(terms))
		a := <-terms
		stopB := running(t, candidate(t, s, Options{Holder: "b"}), leads(terms))
		time.Sleep(10 * time.Second)
		at := time.Now()
		still.Store(&at)
		inner := own.Crash()
		b := <-terms
		if !a.Holds() || !b.Holds() {
			t.Errorf("holds: %v, %v; the clock of the first stands still", a.Holds(), b.Holds())
		}
		own.Restart(inner)
		time.Sleep(DefaultTTL)
		synctest.Wait()
		if a.Holds() || !b.Holds() {
			t.Errorf("after a renewal, holds: %v, %v", a.Holds(), b.Holds())
		}
		stopA()
		stopB()
	})
}
