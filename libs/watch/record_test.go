package watch

import (
	"fmt"
	"testing"
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
