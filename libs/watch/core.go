package watch

import (
	"time"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// core is the fan-out without clock, goroutine or network: a state machine that its methods drive. It is not safe for
// concurrent use. Hub holds its lock around each call, except where a method says otherwise.
type core struct {
	opts     Options
	position int64           // revision of the last applied entry
	matcher  *matcher[group] // each range has a list of groups
	groups   int
	// groupsMade counts the groups that there have ever been.
	groupsMade uint64
	streams    map[*Stream]struct{}
	conns      map[any]*conn

	ring      fifo[*record]
	ringBytes int
	// ringFloor: the ring holds every entry with revision > ringFloor and <= position.
	ringFloor int64
	arrivals  timeline
	// whole are revisions of requests whose values are not left apart, although they are large: see keepWhole.
	whole map[int64]struct{}

	lag    [sources]lagQueue
	passes uint64
	seq    uint64 // of the next stream

	watchers int
	unsynced int       // behind, parked or loaded
	progress []*Stream // waiting for the position to reach a progress request's revision

	// wake is an effect for the caller: streams that were asleep and now have work.
	wake    []*Stream
	slot    int // of the last tick
	scratch []*group

	counters Counters
}

// Counters only ever grow.
type Counters struct {
	// Events is the number of events given to streams, and Responses the number of responses.
	Events, Responses uint64
	// Passes is the number of catch-up passes, and RingPasses how many of them were served from memory. PassEntries and
	// RingPassEntries are the entries that they have read.
	Passes, RingPasses, PassEntries, RingPassEntries uint64
	// Fallen counts watchers that were live and fell off the ring. Compacted counts those that were canceled by
	// compaction, and Damaged those whose history could not be read.
	Fallen, Compacted, Damaged uint64
	// Denied counts watches that were canceled because their client may no longer watch their range.
	Denied uint64
	// Refused counts watches that were refused because there were too many.
	Refused uint64
	// Progress counts progress notifications, periodic and on request.
	Progress uint64
}

func newCore(o Options, position int64) *core {
	return &core{
		opts: o, position: position, ringFloor: position, matcher: newMatcher[group](), whole: map[int64]struct{}{},
		streams: map[*Stream]struct{}{}, conns: map[any]*conn{}, lag: [sources]lagQueue{newLagQueue(), newLagQueue()},
	}
}

// apply takes entries in revision order. It ignores those at or below the position (I6). Values that the entries only
// name must have been read for the present watchers: see missing.
func (c *core) apply(entries []revlog.Entry, at time.Duration) {
	for i := range entries {
		c.applyRecord(newRecord(entries[i], at))
	}
	c.wakeProgress()
}

// applyRecords is apply for records.
func (c *core) applyRecords(records []*record) {
	for _, r := range records {
		c.applyRecord(r)
	}
	c.wakeProgress()
}

// missing returns the values that have to be read before records are applied, for the present watchers.
func (c *core) missing(records []*record) (m []unread) {
	for _, r := range records {
		if r.rev <= c.position || !c.want(r) || !r.apart {
			continue
		}
		for i := range r.events {
			ev := &r.events[i]
			wanted, withPrev := false, false
			c.scratch = c.matcher.match(ev.src.KV.Key, c.scratch[:0])
			for _, g := range c.scratch {
				for ; g != nil; g = g.next {
					if g.spec.wants(ev.src.Delete) {
						wanted, withPrev = true, withPrev || g.spec.prevKV
					}
				}
			}
			if wanted {
				m = ev.unread(withPrev, m)
			}
		}
	}
	clear(c.scratch)
	return m
}

// applyRecord applies one record.
func (c *core) applyRecord(r *record) {
	if r.rev > c.position {
		c.position = r.rev
		c.arrivals.add(r.rev, r.at)
		wanted := c.want(r)
		c.ring.push(r)
		c.ringBytes += r.bytes
		if wanted {
			c.fanOut(r)
		}
		for c.ringBytes > c.opts.RingBytes && c.ring.len() > 1 {
			c.dropOldest()
		}
	}
}

func (c *core) fanOut(r *record) {
	for i := range r.events {
		ev := &r.events[i]
		c.scratch = c.matcher.match(ev.src.KV.Key, c.scratch[:0])
		for _, g := range c.scratch {
			for ; g != nil; g = g.next {
				switch {
				case !g.spec.wants(ev.src.Delete):
				case ev.lost(g.spec):
					c.lose(g, r.rev)
				default:
					c.deliver(g, r, ev)
				}
			}
		}
	}
	clear(c.scratch)
}

// lose cancels the live watchers of a group that should get an event of which a compaction has removed a value.
// Watchers that are behind find out later.
func (c *core) lose(g *group, rev int64) {
	for _, w := range g.liveWatchers() {
		if w.next <= rev {
			c.expire(w, rev+1)
		}
	}
	g.complete = max(g.complete, rev)
}

// deliver appends ev to the group and marks its idle subs dirty. Subs that are dirty already cost nothing.
func (c *core) deliver(g *group, r *record, ev *Event) {
	if g.lastRev() != r.rev {
		r.matched = append(r.matched, g)
	}
	g.push(ev)
	for g.idle != nil {
		c.markDirty(g.idle, r.rev)
	}
}

// markDirty moves an idle sub to its stream's queue.
func (c *core) markDirty(s *sub, since int64) {
	s.group.unlink(s)
	s.since = since
	s.stream.ready.push(s)
	c.rouse(s.stream)
}

// rouse notes that a sleeping stream has work.
func (c *core) rouse(s *Stream) {
	if s.asleep {
		s.asleep = false
		c.wake = append(c.wake, s)
	}
}

func (c *core) dropOldest() {
	r := c.ring.pop()
	c.ringBytes -= r.bytes
	c.ringFloor = r.rev
	for _, g := range r.matched {
		g.drop(r.rev)
	}
	r.matched = nil
}

// turnBytes is how many bytes one stream may hold. It shrinks when there are very many streams, so that the sum stays
// bounded.
func (c *core) turnBytes() int {
	return min(c.opts.TurnBytes, max(MinTurnBytes, c.opts.HeldBytes/max(1, len(c.streams))))
}

// responseBytes is what one response of many revisions may hold.
func (c *core) responseBytes() int { return min(c.opts.ResponseBytes, c.turnBytes()) }

// join returns the stream's sub for sp, and counts one more watcher in it. It makes the sub and its group if they do
// not exist.
func (c *core) join(s *Stream, sp spec) *sub {
	first := c.matcher.get(sp.bounds)
	g := first
	for g != nil && g.spec != sp {
		g = g.next
	}
	if g == nil {
		g = &group{spec: sp, next: first, complete: c.position}
		if first != nil {
			g.spec.bounds = first.spec.bounds // share the string
		}
		c.matcher.set(sp.bounds, g)
		c.groups++
		c.groupsMade++
	}
	sb := g.subOf(s)
	if sb == nil {
		sb = &sub{stream: s, group: g}
		g.addSub(sb)
	}
	sb.refs++
	return sb
}

// leave takes a detached watcher out of its sub. The last watcher takes the sub with it, and the last sub the group.
func (c *core) leave(w *watcher) {
	sb := w.sub
	w.sub = nil
	if sb.refs--; sb.refs > 0 || sb.group.removeSub(sb) {
		return
	}
	g := sb.group
	first := c.matcher.get(g.spec.bounds)
	switch {
	case first != g:
		for first.next != g {
			first = first.next
		}
		first.next = g.next
	case g.next != nil:
		c.matcher.set(g.spec.bounds, g.next)
	default:
		c.matcher.remove(g.spec.bounds)
	}
	g.recent = nil
	c.groups--
}

// settle puts a watcher whose cursor is known, and which is in no queue, where it belongs: it is live if its group can
// serve it from there on, and otherwise behind or parked.
func (c *core) settle(w *watcher) {
	s := w.sub.stream
	switch {
	case w.sub.group.covers(w.next):
		c.goLive(w)
	case s.loadedBytes >= c.turnBytes():
		w.state = stateParked
		w.index = int32(len(s.parked))
		s.parked = append(s.parked, w)
		c.setUnsynced(w, true)
	default:
		w.state = stateBehind
		s.behind++
		w.served = c.passes // to the end of the line
		c.enqueue(w)
		c.setUnsynced(w, true)
	}
}

func (c *core) goLive(w *watcher) {
	sb := w.sub
	if sb.live.len() == 0 && !sb.dirty() {
		sb.group.setIdle(sb)
	}
	w.state = stateLive
	sb.live.push(w)
	c.setUnsynced(w, false)
	if sb.dirty() {
		sb.since = min(sb.since, w.next)
	} else if sb.group.lastRev() >= w.next {
		c.markDirty(sb, w.next)
	}
}

// setUnsynced keeps the counts of watchers that are not live.
func (c *core) setUnsynced(w *watcher, on bool) {
	if w.has(flagUnsynced) == on {
		return
	}
	w.set(flagUnsynced, on)
	d := -1
	if on {
		d = 1
	}
	w.sub.stream.unsynced += d
	c.unsynced += d
}

// detach takes a watcher out of whatever its state keeps it in. Its sub and id stay.
func (c *core) detach(w *watcher) {
	s := w.sub.stream
	switch w.state {
	case stateLive:
		sb := w.sub
		sb.live.remove(w)
		if sb.live.len() == 0 && !sb.dirty() {
			sb.group.unlink(sb) // a dirty one is in its stream's queue, which skips it as empty
		}
	case stateBehind:
		s.behind--
		c.lag[w.source()].remove(w)
	case stateParked:
		p := s.parked
		last := p[len(p)-1]
		p[w.index], last.index = last, w.index
		p[len(p)-1] = nil
		s.parked = p[:len(p)-1]
	case stateLoaded:
		// Its place in the stream's queue of batches is skipped there.
	}
	c.setUnsynced(w, false)
}

// behind returns the number of watchers that wait for a pass.
func (c *core) behind() int { return c.lag[fromRing].byNext.Len() + c.lag[fromLog].byNext.Len() }
