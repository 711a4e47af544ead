package watch

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// These tests show that nobody waits for another, by counting turns and passes instead of measuring time.

// rowLog is a log of dense revisions from 2 to head, all puts of one key, that is made as it is read. Reads wait
// while shut is set.
type rowLog struct {
	head  atomic.Int64
	reads atomic.Int64
	shut  chan struct{}
}

func (l *rowLog) Head(context.Context) (int64, error) { return l.head.Load(), nil }

func (l *rowLog) CompactRevision() int64 { return -1 }

func (l *rowLog) ReadValues(context.Context, []*revlog.KV) ([][]byte, error) {
	return nil, errors.New("no values")
}

func (l *rowLog) ReadLog(ctx context.Context, from int64, maxEntries, _ int) ([]revlog.Entry, int64, error) {
	l.reads.Add(1)
	if l.shut != nil {
		select {
		case <-l.shut:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	var got []revlog.Entry
	for head := l.head.Load(); from <= head && len(got) < maxEntries; from++ {
		got = append(got, rowEntry(from))
	}
	return got, from, nil
}

// next commits one more and returns it.
func (l *rowLog) next() []revlog.Entry { return []revlog.Entry{rowEntry(l.head.Add(1))} }

func rowEntry(rev int64) revlog.Entry {
	return revlog.Entry{
		Rev: rev, Events: []revlog.Event{{KV: revlog.KV{Key: []byte("k"), Create: 2, Mod: rev, Version: rev - 1}}},
	}
}

func newRowLog(head int64) *rowLog {
	l := &rowLog{}
	l.head.Store(head)
	return l
}

// TestRingNeverWaitsForLog: while a read of the log does not come back, a watcher whose start the ring still holds is
// served, and those that wait for the log hold up neither it nor the end of the hub.
func TestRingNeverWaitsForLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newRowLog(1000)
		log.shut = make(chan struct{})
		h := New(Options{Log: quietLog()})
		h.Start(log, 1000)
		defer h.Close()
		s, _ := h.Open()
		defer s.Close()
		create := func(key string, start int64) {
			if err := s.Create(t.Context(), CreateRequest{Key: []byte(key), StartRevision: start}); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			create("k", 2)
		}
		synctest.Wait()
		if n := log.reads.Load(); n != 1 {
			t.Fatalf("%d reads of the log are under way", n)
		}
		for range 50 {
			h.Apply(log.next())
		}
		synctest.Wait()
		// A range of its own: its group was made just now, so only a pass over the ring can serve it.
		if err := s.Create(t.Context(),
			CreateRequest{Key: []byte("k"), RangeEnd: []byte("z"), StartRevision: 1001}); err != nil {
			t.Fatal(err)
		}
		got := map[int64]int64{}
		read := func(until func() bool) {
			for !until() {
				turn, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range turn {
					for _, e := range r.Events {
						got[r.WatchID] = e.Rev()
					}
				}
			}
		}
		read(func() bool { return got[100] == 1050 })
		if len(got) != 1 {
			t.Errorf("served although the log is shut: %v", got)
		}
		close(log.shut)
		read(func() bool {
			for id := range int64(100) {
				if got[id] < 1050 {
					return false
				}
			}
			return true
		})
	})
}

// liveStreams opens streams with one live watch each and takes the created responses.
func liveStreams(c *core, n int) (ss []*Stream) {
	for range n {
		s := &Stream{}
		c.open(s)
		c.create(s, CreateRequest{Key: []byte("k")}, c.position, -1)
		c.take(s, nil)
		ss = append(ss, s)
	}
	return ss
}

// applyAndTake applies one event, which every stream must get in its next turn.
func applyAndTake(t *testing.T, c *core, log *rowLog, live []*Stream) {
	t.Helper()
	c.apply(log.next(), time.Second)
	for i, s := range live {
		turn := c.take(s, nil)
		if len(turn) != 1 || len(turn[0].Events) != 1 || turn[0].Events[0].Rev() != c.position {
			t.Fatalf("stream %d at %d: got %+v", i, c.position, turn)
		}
	}
}

// TestStalledStreamsHoldNobodyUp: streams that never read hold cursors and at most two turns each, whatever is
// written and however long they lag, and others get every event in their next turn.
func TestStalledStreamsHoldNobodyUp(t *testing.T) {
	log := newRowLog(1000)
	c := newCore(Options{RingBytes: 20_000, TurnBytes: 4000, ResponseBytes: 1000}.withDefaults(), 1000)
	live := liveStreams(c, 10)
	var stalled []*Stream
	for range 20 {
		s := &Stream{}
		c.open(s)
		for i := range 50 {
			c.create(s, CreateRequest{
				Key: []byte("k"), RangeEnd: fmt.Appendf(nil, "z%d", i), StartRevision: int64(i % 2 * 10),
			}, 1000, -1)
		}
		stalled = append(stalled, s)
	}
	for i := range 5000 {
		applyAndTake(t, c, log, live)
		if i%10 > 0 {
			continue
		}
		for src := range sources {
			if p, _ := c.plan(src, -1); p != nil {
				runPass(t, c, p, log)
			}
		}
	}
	for _, s := range stalled {
		if limit := c.turnBytes() + c.responseBytes(); s.loadedBytes > limit || s.ready.len() > 50 ||
			s.controls.len() > 50 {
			t.Errorf("a stalled stream holds %d B, %d subs, %d controls", s.loadedBytes, s.ready.len(),
				s.controls.len())
		}
	}
	if c.ringBytes > c.opts.RingBytes {
		t.Errorf("ring of %d B", c.ringBytes)
	}
	if n := c.behind(); n != 0 {
		t.Errorf("%d watchers of streams without room wait for passes", n)
	}
}

// TestFarWatcherHoldsNobodyUp: a watcher 1,000,000 revisions behind takes every second pass at most, live streams get
// every event in their next turn, and a pass holds no more than its bounds.
func TestFarWatcherHoldsNobodyUp(t *testing.T) {
	const head = 1_000_001
	log := newRowLog(head)
	c := newCore(Options{RingBytes: 50_000}.withDefaults(), head)
	live := liveStreams(c, 20)
	far := &Stream{}
	c.open(far)
	c.create(far, CreateRequest{Key: []byte("none"), StartRevision: 2}, head, -1)
	w := far.watchers[0]
	var late *watcher
	lateSince, lates := 0, 0
	passes := 0
	for ; w.state == stateBehind && w.next <= c.ringFloor; passes++ {
		p, _ := c.plan(fromLog, -1)
		runPass(t, c, p, log)
		if len(p.records) > c.opts.PassEntries {
			t.Fatalf("a pass of %d entries", len(p.records))
		}
		applyAndTake(t, c, log, live)
		if late != nil && late.state == stateLive {
			// It needs 4 passes of its own, and the far one gets as many.
			if n := passes - lateSince; n > 9 {
				t.Fatalf("a late watcher waited for %d passes", n)
			}
			lates++
			c.cancel(far, late.id, head)
			c.take(far, nil)
			late = nil
		}
		if late == nil {
			c.create(far, CreateRequest{Key: []byte("none either"), StartRevision: c.position - 3000}, head, -1)
			late, lateSince = far.watchers[far.nextID-1], passes
		} else if p, _ := c.plan(fromRing, -1); p != nil {
			runPass(t, c, p, log)
		}
	}
	if limit := 2*head/c.opts.PassEntries + 100; passes > limit || lates < 100 {
		t.Errorf("%d passes for the far watcher, %d late watchers meanwhile", passes, lates)
	}
}

// TestCreationStorm: 10,000 watchers that come at once from nearby revisions share their passes, hold no more than
// their streams may, and live streams get every event in their next turn.
func TestCreationStorm(t *testing.T) {
	const head, streams, perStream = 50_001, 100, 100
	log := newRowLog(head)
	c := newCore(Options{}.withDefaults(), head)
	live := liveStreams(c, 20)
	var storm []*Stream
	for i := range streams {
		s := &Stream{}
		c.open(s)
		for j := range perStream {
			c.create(s, CreateRequest{Key: fmt.Appendf(nil, "k%d", j), StartRevision: int64(head - 5000 + i)}, head, -1)
		}
		storm = append(storm, s)
		applyAndTake(t, c, log, live)
	}
	passes, turns := 0, 0
	for ; c.unsynced > 0; passes++ {
		if passes > 20 {
			t.Fatalf("%d watchers are still behind after %d passes", c.unsynced, passes)
		}
		for src := range sources {
			if p, _ := c.plan(src, -1); p != nil {
				for left := true; left; turns++ {
					if p.members == nil {
						runPassUntilDistribute(t, c, p, log)
					}
					left = c.distribute(p, lockChunk)
					applyAndTake(t, c, log, live)
				}
			}
		}
		for _, s := range storm {
			c.take(s, nil)
		}
	}
	if c.ringBytes > c.opts.RingBytes {
		t.Errorf("ring of %d B", c.ringBytes)
	}
	t.Logf("%d rounds of passes, %d holds of the lock", passes, turns)
}
