package watch

import (
	"testing"
	"time"
)

// TestPassesAreFair: a watcher that is far behind and one that is a little behind take turns, and watchers near one
// another share a pass.
func TestPassesAreFair(t *testing.T) {
	const entries = 10_000
	log := &memLog{}
	c := newCore(Options{RingBytes: 1, PassEntries: 100}.withDefaults(), 1)
	for range entries {
		c.apply(log.add("k", nil), time.Second)
	}
	s := &Stream{}
	c.open(s)
	create := func(start int64) *watcher {
		c.create(s, CreateRequest{Key: []byte("other"), StartRevision: start}, entries+1, -1)
		return s.watchers[s.nextID-1]
	}
	far := create(2)
	var late, mates []*watcher
	passes := 0
	step := func() {
		p, ok := c.plan(fromLog, -1)
		if !ok {
			t.Fatal("nobody is behind")
		}
		passes++
		runPass(t, c, p, log)
	}
	step()
	for range 5 {
		late = append(late, create(entries-150))
		mates = append(mates, create(far.next+50))
	}
	for late[0].state != stateLive {
		step()
	}
	if passes > 6 {
		t.Errorf("the late watchers waited for %d passes", passes)
	}
	for _, w := range late {
		if w.state != stateLive {
			t.Error("late watchers did not share passes")
		}
	}
	for _, w := range mates {
		if w.next != far.next {
			t.Errorf("mate at %d, far one at %d: they did not share passes", w.next, far.next)
		}
	}
}

// runPass does what Hub.runPass does, without a hub.
func runPass(t testing.TB, c *core, p *pass, log Log) {
	runPassUntilDistribute(t, c, p, log)
	for c.distribute(p, lockChunk) {
		continue
	}
}

func runPassUntilDistribute(t testing.TB, c *core, p *pass, log Log) {
	if !p.filled() {
		entries, next, err := log.ReadLog(t.Context(), p.from, c.opts.PassEntries, c.opts.PassBytes)
		if err != nil {
			t.Fatal(err)
		}
		p.fill(entries, next, c.opts.PassBytes)
	}
	p.measure(c.opts.Codec, c.opts.PassBytes)
	c.collect(p)
	p.match(c.opts.Codec)
}

// BenchmarkReconnect: 10,000 watchers on 100 streams come back from 50,000 revisions ago; one op is all of them being
// live, with the events they missed taken.
func BenchmarkReconnect(b *testing.B) {
	const entries, streams, perStream = 50_000, 100, 100
	log := &memLog{}
	for i := range entries {
		log.add("/k/"+string(rune('a'+i%26)), make([]byte, 256))
	}
	for b.Loop() {
		c := newCore(Options{}.withDefaults(), entries+1)
		all := make([]*Stream, streams)
		for i := range all {
			all[i] = &Stream{}
			c.open(all[i])
			for j := range perStream {
				p := "/k/" + string(rune('a'+j%26)) + "/" // nothing matches but each 26th
				if j == 0 {
					p = "/k/a"
				}
				c.create(all[i], CreateRequest{
					Key: []byte(p), RangeEnd: []byte(prefixEnd(p)), StartRevision: int64(2 + i),
				}, entries+1, -1)
			}
		}
		var turn []Response
		for c.unsynced > 0 {
			for src := range sources {
				if p, _ := c.plan(src, -1); p != nil {
					runPass(b, c, p, log)
				}
			}
			for _, s := range all {
				turn = c.take(s, turn[:0])
			}
		}
		b.ReportMetric(float64(c.counters.Passes), "passes")
	}
}
