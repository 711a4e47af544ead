package watch

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// asPayloads are entries as a log has them.
func asPayloads(entries []revlog.Entry) (ps []revlog.Payload) {
	for _, e := range entries {
		p := revlog.Payload{Rev: e.Rev}
		for i := range e.Events {
			p.Bytes, _ = revlog.Codec{}.AppendEvent(p.Bytes, &e.Events[i], e.Rev)
		}
		ps = append(ps, p)
	}
	return ps
}

// TestUnwatchedStaysEncoded: an entry is decoded when a watch wants one of its events, and not before. A watch that
// comes later gets what nobody watched from memory all the same.
func TestUnwatchedStaysEncoded(t *testing.T) {
	c := newCore(Options{}.withDefaults(), 1)
	apply := func(rev int64, keys ...string) {
		e := revlog.Entry{Rev: rev}
		for _, key := range keys {
			kv := revlog.KV{Key: []byte(key), Value: fmt.Append(nil, rev), Create: rev, Mod: rev, Version: 1}
			e.Events = append(e.Events, revlog.Event{KV: kv})
		}
		r := newRaw(asPayloads([]revlog.Entry{e})[0], time.Second)
		c.applyRecords([]*record{&r})
	}
	decoded := func() (revs []int64) {
		for i := range c.ring.len() {
			if r := c.ring.at(i); r.raw == nil {
				revs = append(revs, r.rev)
			}
		}
		return revs
	}
	s := &Stream{}
	c.open(s)
	taken := func() (got []string) {
		for turn := c.take(s, nil); len(turn) > 0; turn = c.take(s, nil) {
			for _, r := range turn {
				for _, e := range r.Events {
					got = append(got, fmt.Sprintf("%s=%s", e.src.KV.Key, e.src.KV.Value))
				}
			}
		}
		return got
	}
	apply(2, "a")
	apply(3, "b", "a")
	c.create(s, CreateRequest{Key: []byte("a")}, 4, -1)
	apply(4, "b")
	apply(5, "b", "a")
	if got := decoded(); len(got) != 1 || got[0] != 5 {
		t.Errorf("decoded: %v", got)
	}
	if got := taken(); len(got) != 1 || got[0] != "a=5" {
		t.Errorf("sent: %q", got)
	}
	c.create(s, CreateRequest{Key: []byte("a"), StartRevision: 2}, 5, -1)
	p, more := c.plan(fromRing, -1)
	if p == nil || !more {
		t.Fatalf("no pass from memory: %v", more)
	}
	runPass(t, c, p, nil)
	if got := taken(); len(got) != 3 || got[0] != "a=2" || got[1] != "a=3" || got[2] != "a=5" {
		t.Errorf("sent from memory: %q", got)
	}
	if got := decoded(); len(got) != 1 || got[0] != 5 {
		t.Errorf("decoded by the pass: %v", got)
	}
}

// TestRingPassReadsLittle: a pass over entries in memory that nobody has decoded reads as few of the values that they
// name at a time as one over the log.
func TestRingPassReadsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const entries, size, passBytes = 40, 1000, 10_000
		log := &memLog{}
		for range entries {
			log.name(size)
		}
		h := New(Options{Log: quietLog(), PassBytes: passBytes})
		h.Start(log, 1)
		defer h.Close()
		h.ApplyPayloads(asPayloads(log.entries))
		synctest.Wait()
		s, _ := h.Open()
		defer s.Close()
		if err := s.Create(t.Context(), CreateRequest{Key: []byte("k"), PrevKV: true, StartRevision: 2}); err != nil {
			t.Fatal(err)
		}
		for next := int64(2); next < entries+2; {
			for _, r := range nextEvents(t, s) {
				for _, ev := range r.Events {
					if ev.Rev() != next {
						t.Fatalf("revision %d instead of %d", ev.Rev(), next)
					}
					next++
				}
			}
		}
		if st := h.Stats(); st.RingPasses < 2*entries*size/passBytes || st.RingPasses != st.Passes {
			t.Errorf("%d passes from memory, %d in all", st.RingPasses, st.Passes)
		}
	})
}

// TestDroppedRecordsAreFreed: what the ring drops does not stay in memory because something that came with it is
// still there.
func TestDroppedRecordsAreFreed(t *testing.T) {
	const entries = 100
	h := New(Options{Log: quietLog(), RingBytes: 50 << 10})
	defer h.Close()
	h.Start(&memLog{}, 1)
	freed := make(chan struct{})
	var ps []revlog.Payload
	for i := range entries {
		kv := revlog.KV{Key: []byte("k"), Value: make([]byte, 10<<10), Create: 2, Mod: int64(i) + 2, Version: 1}
		ps = append(ps, asPayloads([]revlog.Entry{{Rev: kv.Mod, Events: []revlog.Event{{KV: kv}}}})...)
	}
	runtime.AddCleanup(&ps[0].Bytes[0], func(struct{}) { close(freed) }, struct{}{})
	h.ApplyPayloads(ps)
	h.drainInbox()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		runtime.GC()
		select {
		case <-freed:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Error("the first of 100 entries is in memory, and the ring has five")
}
