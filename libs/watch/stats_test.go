package watch

import (
	"fmt"
	"testing"
	"time"
)

func TestTimeline(t *testing.T) {
	var tl timeline
	if at := tl.since(5); at != 0 {
		t.Errorf("empty: %v", at)
	}
	// Revision n arrives at n × 10 ms, for long enough that the timeline is thinned out several times.
	const revs = 2_000_000
	for rev := int64(1); rev <= revs; rev++ {
		tl.add(rev, time.Duration(rev)*10*time.Millisecond)
		if len(tl.samples) > maxSamples {
			t.Fatalf("%d samples", len(tl.samples))
		}
	}
	for _, rev := range []int64{1, 2, 777, 123_456, revs / 2, revs - 1, revs} {
		at, want := tl.since(rev), time.Duration(rev)*10*time.Millisecond
		if at > want || want-at > 2*tl.step {
			t.Errorf("revision %d: %v, want %v, step %v", rev, at, want, tl.step)
		}
	}
	if at := tl.since(0); at != 0 {
		t.Errorf("before all: %v", at)
	}
}

// TestLagStats: lag is that of the furthest watcher in either queue, and counts go back to nothing.
func TestLagStats(t *testing.T) {
	const head = 2001
	log := newRowLog(head)
	c := newCore(Options{RingBytes: 50_000}.withDefaults(), head)
	for range 300 {
		c.apply(log.next(), time.Duration(log.head.Load()-head)*time.Second)
	}
	now := 301 * time.Second
	s := &Stream{}
	c.open(s)
	create := func(start int64) {
		key := fmt.Appendf(nil, "other%d", start) // a group of its own, which the ring cannot serve at once
		c.create(s, CreateRequest{Key: key, StartRevision: start}, c.position, -1)
	}
	check := func(ring, log int, revs int64, lag time.Duration) {
		t.Helper()
		st := c.stats(now)
		if st.WaitRing != ring || st.WaitLog != log || st.Lagging != ring+log || st.LagRevisions != revs ||
			st.LagTime != lag {
			t.Errorf("%+v\nwant %d %d %d %v", st, ring, log, revs, lag)
		}
	}
	check(0, 0, 0, 0)
	create(c.position)
	check(1, 0, 1, time.Second)
	create(head + 100)
	check(1, 1, 201, 201*time.Second)
	create(2)
	check(1, 2, c.position-1, now) // older than the hub
	for c.behind() > 0 {
		for src := range sources {
			if p, _ := c.plan(src, -1); p != nil {
				runPass(t, c, p, log)
			}
		}
	}
	check(0, 0, 0, 0)
	if n := c.counters; n.RingPasses == 0 || n.RingPasses >= n.Passes || n.RingPassEntries == 0 ||
		n.PassEntries-n.RingPassEntries < 2000 {
		t.Errorf("counters %+v", n)
	}
}
