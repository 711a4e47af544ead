package watch

import "github.com/headwaterdb/headwater/libs/revlog"

// pass is one catch-up: a stretch of history, read once and handed to all watchers whose cursors lie in it. Its life:
// plan (locked), fill from the log unless the ring had it (no lock), collect (locked), match (no lock), distribute in
// chunks (locked).
type pass struct {
	from, next int64 // the stretch is [from, next)
	upto       int64 // the hub's position when planned; nothing after it is handed out
	header     int64 // the last revision in the stretch
	records    []*record
	members    []*watcher
	groups     map[*group][]*Event // what the stretch holds for each member's group
	done       int                 // members already served
}

// refill puts parked watchers of the stream back into the queue if the stream may hold more, some at a time.
func (c *core) refill(s *Stream) {
	for len(s.parked) > 0 && s.behind < lockChunk && s.loadedBytes < c.turnBytes() {
		w := s.parked[len(s.parked)-1]
		c.detach(w)
		c.settle(w)
	}
}

// plan cancels watchers overtaken by compaction and picks the next stretch: the one where the watcher begins that has
// waited longest, extended down to near neighbours. ok is false if nobody is behind; a pass without records needs fill.
func (c *core) plan(compact int64) (p *pass, ok bool) {
	for n := 0; n < lockChunk; n++ {
		w, ok := c.behindByNext.Min()
		if !ok || w.next >= compact {
			break
		}
		c.expire(w, compact)
		c.refill(w.stream)
	}
	oldest, ok := c.behindByAge.Min()
	if !ok {
		return nil, false
	}
	p = &pass{from: oldest.next, upto: c.position}
	c.behindByNext.AscendGreaterOrEqual(&watcher{next: oldest.next - c.nearSpan}, func(w *watcher) bool {
		p.from = w.next
		return false
	})
	c.passes++
	c.counters.Passes++
	if p.from > c.ringFloor {
		c.counters.RingPasses++
		c.fillFromRing(p)
	}
	return p, true
}

func (c *core) fillFromRing(p *pass) {
	i := c.ring.search(func(r *record) bool { return r.rev >= p.from })
	p.next = p.upto + 1
	for bytes := 0; i < c.ring.len(); i++ {
		r := c.ring.at(i)
		if len(p.records) > 0 && (len(p.records) >= c.opts.PassEntries || bytes+r.bytes > c.opts.PassBytes) {
			p.next = r.rev
			return
		}
		bytes += r.bytes
		p.records = append(p.records, r)
	}
}

// filled reports whether the pass has its stretch.
func (p *pass) filled() bool { return p.next > p.from }

// fill gives the pass what was read from the log: entries from p.from on, complete below next.
func (p *pass) fill(entries []revlog.Entry, next int64) {
	p.next = min(next, p.upto+1)
	for _, e := range entries {
		if e.Rev < p.next {
			p.records = append(p.records, newRecord(e, 0))
		}
	}
}

// collect finds the watchers that the stretch is for.
func (c *core) collect(p *pass) {
	p.groups = map[*group][]*Event{}
	c.behindByNext.AscendRange(&watcher{next: p.from}, &watcher{next: p.next}, func(w *watcher) bool {
		p.members = append(p.members, w)
		p.groups[w.group] = nil
		return len(p.members) < c.opts.PassWatchers
	})
	c.nearSpan = (p.next - p.from) / 2
	if p.header = p.upto; p.next <= p.upto {
		p.header = p.records[len(p.records)-1].rev
	}
	c.counters.PassEntries += uint64(len(p.records))
}

// match needs no lock: it reads only what never changes in groups and events.
func (p *pass) match() {
	m := newMatcher()
	for g := range p.groups {
		m.add(g)
	}
	var hits []*group
	for _, r := range p.records {
		for i := range r.events {
			ev := &r.events[i]
			hits = m.match(ev.src.KV.Key, hits[:0])
			for _, g := range hits {
				if g.spec.wants(ev.src.Delete) {
					p.groups[g] = append(p.groups[g], ev)
				}
			}
		}
	}
}

// distribute hands the stretch to up to n members and reports whether more are left.
func (c *core) distribute(p *pass, n int) bool {
	for ; n > 0 && p.done < len(p.members); n-- {
		w := p.members[p.done]
		p.done++
		if w.state != stateBehind {
			continue // canceled since
		}
		s := w.stream
		c.detach(w)
		c.advance(w, p)
		c.refill(s)
	}
	return p.done < len(p.members)
}

// advance moves the cursor of a detached member past the stretch, or to the first event that its stream has no room for.
func (c *core) advance(w *watcher, p *pass) {
	events := p.groups[w.group]
	events = events[searchRev(events, w.next):]
	switch {
	case len(events) == 0:
		w.next = p.next
		c.settle(w)
	case w.stream.loadedBytes >= c.turnBytes():
		w.next = events[0].Rev()
		c.settle(w)
	default:
		n, bytes := cut(events, w.group.spec.prevKV, c.responseBytes())
		b := &batch{events: events[:n:n], bytes: bytes, next: p.next, header: p.header}
		if n < len(events) {
			b.next, b.header = events[n].Rev(), events[n-1].Rev()
		}
		w.batch = b
		w.state = stateLoaded
		w.stream.loadedBytes += bytes
		w.stream.loaded.push(w)
		c.setUnsynced(w, true)
		c.rouse(w.stream)
	}
}

func searchRev(events []*Event, rev int64) int {
	lo, hi := 0, len(events)
	for lo < hi {
		if mid := (lo + hi) / 2; events[mid].Rev() < rev {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
