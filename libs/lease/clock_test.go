package lease

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClock: leases end by the keeper's own clock, which here goes at half the rate of the timers.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, began := newFakeStore(), time.Now()
		slow := func() time.Time { return began.Add(time.Since(began) / 2) }
		k, stop := run(t, &client{fakeStore: s}, Options{Now: slow})
		grant(t, k, 1, 10)
		time.Sleep(20*time.Second - time.Millisecond)
		synctest.Wait()
		if !s.has(1) {
			t.Error("it has ended before 10 s of the keeper's clock")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s.has(1) {
			t.Error("it has not ended after 10 s of the keeper's clock")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
