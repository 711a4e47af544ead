package watch

import (
	"fmt"
	"slices"

	"github.com/google/btree"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// source is where a catch-up pass reads. Each source has a queue and a runner of its own, so a watcher that the ring
// can serve never waits for the log.
type source uint8

const (
	fromRing source = iota
	fromLog
	sources
)

// lagQueue holds the watchers that wait for passes from one source.
type lagQueue struct {
	byNext *btree.BTreeG[*watcher]
	byAge  *btree.BTreeG[*watcher]
	span   int64 // how far below a watcher a pass may begin to take others along
}

const btreeDegree = 32

func newLagQueue() lagQueue {
	return lagQueue{
		byNext: btree.NewG(btreeDegree, lessNext),
		byAge: btree.NewG(btreeDegree, func(a, b *watcher) bool {
			if a.served != b.served {
				return a.served < b.served
			}
			return lessNext(a, b)
		}),
	}
}

// lessNext orders watchers by cursor. A watcher without a sub stands for the beginning of the watchers with its cursor.
func lessNext(a, b *watcher) bool {
	switch {
	case a.next != b.next:
		return a.next < b.next
	case a.sub == nil || b.sub == nil:
		return a.sub == nil && b.sub != nil
	case a.sub.stream != b.sub.stream:
		return a.sub.stream.seq < b.sub.stream.seq
	}
	return a.id < b.id
}

func (q *lagQueue) add(w *watcher) {
	q.byNext.ReplaceOrInsert(w)
	q.byAge.ReplaceOrInsert(w)
}

func (q *lagQueue) remove(w *watcher) {
	q.byNext.Delete(w)
	q.byAge.Delete(w)
}

// enqueue puts a watcher that is behind into the queue of the source that has what it needs next.
func (c *core) enqueue(w *watcher) {
	w.set(flagLog, w.next <= c.ringFloor)
	c.lag[w.source()].add(w)
}

// pass is one catch-up: a stretch of history that is read once and given to all watchers whose cursors lie in it. Its
// steps are: plan (locked), fill from the log unless the ring had it (no lock), collect (locked), match (no lock),
// distribute in chunks (locked). Passes from different sources may run at the same time: no watcher is in both queues,
// and only the ring's own plan moves one from its queue to the other.
type pass struct {
	source     source
	from, next int64 // the stretch is [from, next)
	upto       int64 // the hub's position when planned; nothing after it is handed out
	header     int64 // the last revision in the stretch
	records    []*record
	named      int64 // size of the values that records name which nobody has decoded
	members    []*watcher
	groups     map[*group]*found
	done       int // members already served
}

// found is what the stretch has for a group of its members.
type found struct {
	spec   spec
	events []*Event
	lost   int64  // revision of an event of which a value is gone, 0 if there is none
	next   *found // of the same range with other options
}

// refill puts some parked watchers of the stream back into the queue, if the stream may hold more.
func (c *core) refill(s *Stream) {
	for len(s.parked) > 0 && s.behind < lockChunk && s.loadedBytes < c.turnBytes() {
		w := s.parked[len(s.parked)-1]
		c.detach(w)
		c.settle(w)
	}
}

// plan cancels watchers that compaction has overtaken, and picks the next stretch from a source. The stretch begins at
// the watcher that has waited longest, extended down to near neighbours. more is false if nobody waits for that source.
// p may be nil even if more is true: then there was so much to tidy up that plan must be called again. A pass from the
// log needs fill.
func (c *core) plan(src source, compact int64) (p *pass, more bool) {
	q := &c.lag[src]
	for range lockChunk {
		w, ok := q.byNext.Min()
		if !ok {
			return nil, false
		}
		if w.next < compact {
			s := w.sub.stream
			c.expire(w, compact)
			c.refill(s)
			continue
		}
		if src != fromRing || w.next > c.ringFloor {
			break
		}
		q.remove(w) // the ring has moved on; the watcher keeps its place in the line
		c.enqueue(w)
	}
	oldest, ok := q.byAge.Min()
	if !ok {
		return nil, false
	}
	least := oldest.next - q.span
	if src == fromRing {
		if oldest.next <= c.ringFloor {
			return nil, true
		}
		least = max(least, c.ringFloor+1)
	}
	p = &pass{source: src, from: oldest.next, upto: c.position}
	q.byNext.AscendGreaterOrEqual(&watcher{next: least}, func(w *watcher) bool {
		p.from = w.next
		return false
	})
	c.passes++
	if src == fromRing {
		c.fillFromRing(p)
	}
	return p, true
}

// damaged cancels up to n watchers that wait for the pass's first entry, which cannot be read. Every one of them needs
// it; those that wait for later entries may not. It says whether more are left.
func (c *core) damaged(p *pass, n int) (left bool) {
	var hit []*watcher
	c.lag[p.source].byNext.AscendRange(&watcher{next: p.from}, &watcher{next: p.from + 1}, func(w *watcher) bool {
		hit = append(hit, w)
		return len(hit) <= n
	})
	for _, w := range hit[:min(n, len(hit))] {
		s, id := w.sub.stream, w.id
		c.forget(s, w)
		c.refill(s)
		c.counters.Damaged++
		c.control(s, control{id: id, rev: p.from - 1, reason: fmt.Sprintf(reasonDamaged, p.from), canceled: true})
	}
	return len(hit) > n
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

// bytes returns the size of the stretch.
func (p *pass) bytes() int64 {
	n := p.named
	for _, r := range p.records {
		n += int64(r.bytes)
	}
	return n
}

// filled says whether the pass has its stretch.
func (p *pass) filled() bool { return p.next > p.from }

// fill gives the pass what was read from the log: entries from p.from on, complete below next. If entries name larger
// values, fill takes only as many entries as make up maxBytes, but at least one. The reader could not count these
// values, and the members may want all of them.
func (p *pass) fill(entries []revlog.Entry, next int64, maxBytes int) {
	p.next = min(next, p.upto+1)
	for bytes, i := 0, 0; i < len(entries) && entries[i].Rev < p.next; i++ {
		r := newRecord(entries[i], 0)
		if r.apart {
			bytes += r.bytes / 2 // without a wire form
		}
		if len(p.records) > 0 && bytes > maxBytes {
			p.next = r.rev
			return
		}
		p.records = append(p.records, r)
	}
}

// measure cuts the stretch as fill does, where it has entries from the ring that nobody has decoded: what the ring
// counts of these does not have the values that they only name. It needs no lock.
func (p *pass) measure(codec revlog.Codec, maxBytes int) {
	for i, r := range p.records {
		n := int64(r.namedBytes(codec))
		if n > 0 && i > 0 && p.named+n > int64(maxBytes) {
			p.records, p.next = p.records[:i], r.rev
			return
		}
		p.named += n
	}
}

// collect finds the watchers that need the stretch.
func (c *core) collect(p *pass) {
	q := &c.lag[p.source]
	p.groups = map[*group]*found{}
	q.byNext.AscendRange(&watcher{next: p.from}, &watcher{next: p.next}, func(w *watcher) bool {
		p.members = append(p.members, w)
		if g := w.sub.group; p.groups[g] == nil {
			p.groups[g] = &found{spec: g.spec}
		}
		return len(p.members) < c.opts.PassWatchers
	})
	q.span = (p.next - p.from) / 2
	if p.header = p.upto; p.next <= p.upto {
		p.header = p.records[len(p.records)-1].rev
	}
	c.counters.Passes++
	c.counters.PassEntries += uint64(len(p.records))
	if p.source == fromRing {
		c.counters.RingPasses++
		c.counters.RingPassEntries += uint64(len(p.records))
	}
}

// match needs no lock. It touches only the pass's own data, and parts of records and events that never change once the
// ring has them. What nobody has decoded is decoded for this pass alone, if it wants one of its events.
func (p *pass) match(codec revlog.Codec) {
	m := newMatcher[found]()
	for _, f := range p.groups {
		f.next = m.get(f.spec.bounds)
		m.set(f.spec.bounds, f)
	}
	var hits []*found
	for n, r := range p.records {
		r = r.matchedBy(m, codec)
		p.records[n] = r
		for i := range r.events {
			ev := &r.events[i]
			hits = m.match(ev.src.KV.Key, hits[:0])
			for _, f := range hits {
				for ; f != nil; f = f.next {
					if f.spec.wants(ev.src.Delete) {
						f.events = append(f.events, ev)
					}
				}
			}
		}
	}
}

// missing returns the values that have to be read before the pass is distributed.
func (p *pass) missing() (m []unread) {
	if !slices.ContainsFunc(p.records, func(r *record) bool { return r.apart }) {
		return nil
	}
	withPrev := map[*Event]bool{}
	for _, f := range p.groups {
		for _, ev := range f.events {
			withPrev[ev] = withPrev[ev] || f.spec.prevKV
		}
	}
	for ev, prev := range withPrev {
		m = ev.unread(prev, m)
	}
	return m
}

// lose notes which groups cannot be served, after the values of missing have been read.
func (p *pass) lose() {
	for _, f := range p.groups {
		for _, ev := range f.events {
			if ev.lost(f.spec) {
				f.lost = ev.Rev()
			}
		}
	}
}

// distribute gives the stretch to up to n members. It says whether more are left.
func (c *core) distribute(p *pass, n int) bool {
	for ; n > 0 && p.done < len(p.members); n-- {
		w := p.members[p.done]
		p.done++
		if w.state != stateBehind {
			continue // canceled since
		}
		s := w.sub.stream
		c.detach(w)
		c.advance(w, p)
		c.refill(s)
	}
	return p.done < len(p.members)
}

// advance moves the cursor of a detached member past the stretch, or to the first event for which its stream has no
// room.
func (c *core) advance(w *watcher, p *pass) {
	s, g := w.sub.stream, w.sub.group
	if lost := p.groups[g].lost; lost >= w.next {
		c.settle(w)
		c.expire(w, lost+1)
		return
	}
	events := p.groups[g].events
	events = events[searchRev(events, w.next):]
	switch {
	case len(events) == 0:
		w.next = p.next
		c.settle(w)
	case s.loadedBytes >= c.turnBytes():
		w.next = events[0].Rev()
		c.settle(w)
	default:
		n, bytes := cut(events, g.spec.prevKV, c.responseBytes())
		b := batch{w: w, events: events[:n:n], bytes: bytes, next: p.next, header: p.header}
		if n < len(events) {
			b.next, b.header = events[n].Rev(), events[n-1].Rev()
		}
		w.state = stateLoaded
		s.loadedBytes += bytes
		s.loaded.push(b)
		c.setUnsynced(w, true)
		c.rouse(s)
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
