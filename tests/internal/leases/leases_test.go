package leases

import (
	"errors"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	sent := time.Now()
	l := &Life{ID: 1, Keys: []string{"a", "b"}, TTL: 2 * time.Second, Sent: sent, Answered: sent.Add(time.Second)}
	in := func(d time.Duration, rev int64) Deletion { return Deletion{At: sent.Add(d), Rev: rev} }
	if err := l.Check([]Deletion{in(2*time.Second, 5), in(3*time.Second, 5)}); err != nil {
		t.Error(err)
	}
	if err := l.Check([]Deletion{in(3*time.Second, 5), in(2*time.Second-1, 5)}); !errors.Is(err, ErrEarly) {
		t.Error("an early end:", err)
	}
	if err := l.Check([]Deletion{in(3*time.Second, 5), in(3*time.Second, 6)}); err == nil {
		t.Error("the check does not notice a lease that ends in two halves")
	}
}

func TestClock(t *testing.T) {
	start := time.Now()
	c := &Clock{}
	for i, rev := range []int64{10, 10, 20, 15, 30} { // 15 is an answer that came late
		c.saw(rev, start.Add(time.Duration(i)*time.Second))
	}
	for rev, want := range map[int64]time.Duration{5: 0, 10: 0, 11: 2, 20: 2, 21: 4, 30: 4} {
		if at, ok := c.By(rev); !ok || at != start.Add(want*time.Second) {
			t.Errorf("revision %d by %v, %v", rev, at.Sub(start), ok)
		}
	}
	if _, ok := c.By(31); ok {
		t.Error("a revision that nobody saw")
	}
	if d := (Deletion{At: start.Add(time.Minute), Rev: 20}).earlier(c); d.At != start.Add(2*time.Second) {
		t.Error("the later of two times was taken:", d)
	}
	if d := (Deletion{At: start, Rev: 20}).earlier(c); d.At != start {
		t.Error("the watcher had the event before:", d)
	}
}
