package watch

import (
	"time"

	"github.com/google/btree"

	"github.com/headwaterdb/headwater/libs/revlog"
)

// core is the fan-out without clock, goroutine or network: a state machine driven by its methods. Not safe for
// concurrent use; Hub holds its lock around each call, except where a method says otherwise.
type core struct {
	opts     Options
	position int64 // revision of the last applied entry
	matcher  *matcher
	groups   map[spec]*group
	streams  map[*Stream]struct{}

	ring      fifo[*record]
	ringBytes int
	// ringFloor: the ring holds every entry with revision > ringFloor and <= position.
	ringFloor int64

	behindByNext *btree.BTreeG[*watcher]
	behindByAge  *btree.BTreeG[*watcher]
	passes       uint64
	seq          uint64
	nearSpan     int64 // how far below a watcher a pass may begin to take others along

	watchers int
	unsynced int       // behind, parked or loaded
	progress []*Stream // waiting for the position to reach a progress request's revision

	// wake is an effect for the caller: streams that slept and now have work.
	wake    []*Stream
	slot    int // of the last tick
	scratch []*group

	counters Counters
}

// Counters only ever grow.
type Counters struct {
	// Events is the number of events handed to streams, Responses that of responses.
	Events, Responses uint64
	// Passes is the number of catch-up passes, RingPasses those that were served from memory, PassEntries the entries that passes read.
	Passes, RingPasses, PassEntries uint64
	// Fallen counts watchers that were live and fell off the ring; Compacted those that were canceled by compaction.
	Fallen, Compacted uint64
	// Progress counts progress notifications, periodic and on request.
	Progress uint64
}

const btreeDegree = 32

func newCore(o Options, position int64) *core {
	return &core{
		opts: o, position: position, ringFloor: position, matcher: newMatcher(),
		groups: map[spec]*group{}, streams: map[*Stream]struct{}{},
		behindByNext: btree.NewG(btreeDegree, func(a, b *watcher) bool {
			return a.next < b.next || a.next == b.next && a.seq < b.seq
		}),
		behindByAge: btree.NewG(btreeDegree, func(a, b *watcher) bool {
			if a.served != b.served {
				return a.served < b.served
			}
			return a.next < b.next || a.next == b.next && a.seq < b.seq
		}),
	}
}

// apply takes entries in revision order; those at or below the position are ignored (I6).
func (c *core) apply(entries []revlog.Entry, at time.Duration) {
	for i := range entries {
		if entries[i].Rev <= c.position {
			continue
		}
		r := newRecord(entries[i], at)
		c.position = r.rev
		c.ring.push(r)
		c.ringBytes += r.bytes
		c.fanOut(r)
		for c.ringBytes > c.opts.RingBytes && c.ring.len() > 1 {
			c.dropOldest()
		}
	}
	c.wakeProgress()
}

func (c *core) fanOut(r *record) {
	for i := range r.events {
		ev := &r.events[i]
		c.scratch = c.matcher.match(ev.src.KV.Key, c.scratch[:0])
		for _, g := range c.scratch {
			if g.spec.wants(ev.src.Delete) {
				c.deliver(g, r, ev)
			}
		}
	}
	clear(c.scratch)
}

// deliver appends ev to the group and marks its idle subs dirty; dirty ones cost nothing.
func (c *core) deliver(g *group, r *record, ev *Event) {
	if g.lastRev() != r.rev {
		r.matched = append(r.matched, g)
	}
	g.recent.push(ev)
	for g.idle > 0 {
		c.markDirty(g.subs[g.idle-1], r.rev)
	}
}

func (c *core) markDirty(s *sub, since int64) {
	s.group.setDirty(s)
	s.dirty, s.since = true, since
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

// turnBytes is what one stream may hold; it shrinks when there are very many streams, so that the sum stays bounded.
func (c *core) turnBytes() int {
	return min(c.opts.TurnBytes, max(MinTurnBytes, c.opts.HeldBytes/max(1, len(c.streams))))
}

// responseBytes is what one response of many revisions may hold.
func (c *core) responseBytes() int { return min(c.opts.ResponseBytes, c.turnBytes()) }

// groupOf returns the group for sp, making it if needed, and counts one more watcher in it.
func (c *core) groupOf(sp spec) *group {
	g := c.groups[sp]
	if g == nil {
		g = &group{spec: sp, complete: c.position}
		c.groups[sp] = g
		c.matcher.add(g)
	}
	g.watchers++
	return g
}

func (c *core) releaseGroup(g *group) {
	if g.watchers--; g.watchers == 0 {
		delete(c.groups, g.spec)
		c.matcher.remove(g)
		g.recent = fifo[*Event]{}
	}
}

// settle puts a watcher whose cursor is known, and that is in no queue, where it belongs: live if its group can serve
// it from there on, else behind or parked.
func (c *core) settle(w *watcher) {
	switch {
	case w.group.covers(w.next):
		c.goLive(w)
	case w.stream.loadedBytes >= c.turnBytes():
		w.state = stateParked
		w.index = int32(len(w.stream.parked))
		w.stream.parked = append(w.stream.parked, w)
		c.setUnsynced(w, true)
	default:
		w.state = stateBehind
		w.stream.behind++
		w.served = c.passes // to the end of the line
		c.behindByNext.ReplaceOrInsert(w)
		c.behindByAge.ReplaceOrInsert(w)
		c.setUnsynced(w, true)
	}
}

func (c *core) goLive(w *watcher) {
	s := w.stream.subs[w.group]
	if s == nil {
		s = &sub{stream: w.stream, group: w.group}
		w.stream.subs[w.group] = s
		w.group.addSub(s)
	}
	w.state = stateLive
	w.index = int32(len(s.live))
	s.live = append(s.live, w)
	c.setUnsynced(w, false)
	if !s.dirty && w.group.lastRev() >= w.next {
		c.markDirty(s, w.next)
	} else if s.dirty {
		s.since = min(s.since, w.next)
	}
}

// setUnsynced keeps the counts of watchers that are not live.
func (c *core) setUnsynced(w *watcher, on bool) {
	if w.lagging == on {
		return
	}
	w.lagging = on
	d := -1
	if on {
		d = 1
	}
	w.stream.unsynced += d
	c.unsynced += d
}

// detach takes a watcher out of whatever its state keeps it in; its group and id stay.
func (c *core) detach(w *watcher) {
	switch w.state {
	case stateLive:
		s := w.stream.subs[w.group]
		last := s.live[len(s.live)-1]
		s.live[w.index], last.index = last, w.index
		s.live[len(s.live)-1] = nil
		s.live = s.live[:len(s.live)-1]
		if len(s.live) == 0 {
			// A dirty sub is still in its stream's ready queue, which skips it as empty.
			delete(w.stream.subs, w.group)
			w.group.removeSub(s)
		}
	case stateBehind:
		w.stream.behind--
		c.behindByNext.Delete(w)
		c.behindByAge.Delete(w)
	case stateParked:
		p := w.stream.parked
		last := p[len(p)-1]
		p[w.index], last.index = last, w.index
		p[len(p)-1] = nil
		w.stream.parked = p[:len(p)-1]
	case stateLoaded:
		// Its place in the stream's queue of loaded watchers is skipped there.
		c.unload(w)
	}
	c.setUnsynced(w, false)
}

func (c *core) unload(w *watcher) *batch {
	b := w.batch
	w.batch = nil
	w.stream.loadedBytes -= b.bytes
	return b
}
