package watch

import "slices"

// group is what all watchers with the same spec share: one place in the matcher and the recent events that matched. A
// group exists while it has a sub.
type group struct {
	spec spec
	next *group // of the same range with other options
	// recent are the matched events that the ring still holds, in order; nil if there are none.
	recent *fifo[*Event]
	// complete: every matched event with revision > complete is in recent, if it was applied at all. It starts as the
	// hub's position when the group was made and rises when the ring drops a record that matched.
	complete int64
	idle     *sub // list of the subs that have live watchers and nothing pending
	// The subs by stream: one if there is only one, else many.
	one  *sub
	many map[*Stream]*sub
}

// covers reports whether a watcher that needs everything from revision next on can be served from recent.
func (g *group) covers(next int64) bool { return next > g.complete }

// lastRev is the revision of the newest recent event, or 0.
func (g *group) lastRev() int64 {
	if g.recent == nil {
		return 0
	}
	return g.recent.last().Rev()
}

func (g *group) push(ev *Event) {
	if g.recent == nil {
		g.recent = &fifo[*Event]{}
	}
	g.recent.push(ev)
}

// from returns the recent events of revision >= rev; they are valid until the group changes.
func (g *group) from(rev int64) []*Event {
	if g.recent == nil {
		return nil
	}
	i := g.recent.search(func(e *Event) bool { return e.Rev() >= rev })
	return g.recent.buf[g.recent.head+i:]
}

// drop lets go of the events of revision <= rev.
func (g *group) drop(rev int64) {
	for g.recent != nil && g.recent.at(0).Rev() <= rev {
		if g.recent.pop(); g.recent.len() == 0 {
			g.recent = nil
		}
	}
	g.complete = max(g.complete, rev)
}

// sub is the watchers of one group on one stream; its live ones are the unit that a match marks dirty, so that a match
// costs the number of idle streams that have such a watcher, not the number of watchers.
type sub struct {
	stream *Stream
	group  *group
	live   bag
	// since, of a dirty sub, is the revision that made it dirty: its watchers have got everything before it. 0: not
	// dirty.
	since      int64
	prev, next *sub  // in group.idle, if it has live watchers and is not dirty
	at         int32 // index in live where the next turn goes on
	refs       int32 // watchers, live or not; it goes when there are none
}

func (s *sub) dirty() bool { return s.since > 0 }

// subOf returns the group's sub on a stream, or nil.
func (g *group) subOf(s *Stream) *sub {
	if g.one != nil && g.one.stream == s {
		return g.one
	}
	return g.many[s]
}

func (g *group) addSub(s *sub) {
	switch {
	case g.many != nil:
		g.many[s.stream] = s
	case g.one == nil:
		g.one = s
	default:
		g.many = map[*Stream]*sub{g.one.stream: g.one, s.stream: s}
		g.one = nil
	}
}

// removeSub forgets a sub that has no watchers and reports whether any is left.
func (g *group) removeSub(s *sub) (left bool) {
	if g.one == s {
		g.one = nil
		return false
	}
	delete(g.many, s.stream)
	return len(g.many) > 0
}

// liveWatchers returns the live watchers of the group.
func (g *group) liveWatchers() (all []*watcher) {
	add := func(s *sub) {
		for i := range s.live.len() {
			all = append(all, s.live.at(i))
		}
	}
	if g.one != nil {
		add(g.one)
	}
	for _, s := range g.many {
		add(s)
	}
	return all
}

// setIdle puts s, which must not be in the list, into group.idle.
func (g *group) setIdle(s *sub) {
	s.since = 0
	if s.next = g.idle; s.next != nil {
		s.next.prev = s
	}
	g.idle = s
}

// unlink takes s out of group.idle.
func (g *group) unlink(s *sub) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		g.idle = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
}

// bag is a set of watchers, each of which knows its index; it allocates nothing for the first one.
type bag struct {
	one  *watcher
	many *[]*watcher // all of them, once there have been two
}

func (b *bag) len() int {
	switch {
	case b.many != nil:
		return len(*b.many)
	case b.one != nil:
		return 1
	}
	return 0
}

func (b *bag) at(i int) *watcher {
	if b.many != nil {
		return (*b.many)[i]
	}
	return b.one
}

func (b *bag) push(w *watcher) {
	switch {
	case b.many != nil:
		w.index = int32(len(*b.many))
		*b.many = append(*b.many, w)
	case b.one == nil:
		b.one, w.index = w, 0
	default:
		w.index = 1
		b.many = &[]*watcher{b.one, w}
		b.one = nil
	}
}

func (b *bag) remove(w *watcher) {
	if b.many == nil {
		b.one = nil
		return
	}
	m := *b.many
	last := len(m) - 1
	m[w.index], m[last].index = m[last], w.index
	m[last] = nil
	if *b.many = m[:last]; last == 0 {
		b.many = nil
	} else if cap(m) > bagKeep && last < cap(m)/4 {
		*b.many = slices.Clone(m[:last])
	}
}

// bagKeep is the capacity that a bag keeps when watchers leave it.
const bagKeep = 16

// state of a watcher. The transitions: created → live or behind; live → behind (fell off the ring); behind ⇄ parked
// (its stream has no room); behind → loaded (a pass found events) → live or behind; behind → live (a pass found none
// and joined); anything → gone (canceled), behind → compacted → gone.
type state uint8

const (
	// stateLive: member of a sub; served from its group's recent events.
	stateLive state = iota + 1
	// stateBehind: in a catch-up queue.
	stateBehind
	// stateParked: would be behind, but the stream has as much as it may hold; back in the queue when that has been
	// taken.
	stateParked
	// stateLoaded: a pass left a batch for it, which its stream has not taken yet.
	stateLoaded
	// stateCompacted: canceled by the server because of compaction; only its id is still taken, as in etcd, until the
	// client cancels it.
	stateCompacted
	// stateGone: canceled or its stream closed.
	stateGone
)

// watcher is a cursor. Invariant: the client has been handed every event of its spec with revision in [start, next),
// and none at or after next; for a live watcher of a sub that is not dirty, also everything up to the hub's position.
type watcher struct {
	id     int64
	start  int64  // first revision it wants
	next   int64  // cursor
	served uint64 // number of the pass after which it began to wait for one
	sub    *sub   // nil once compacted or gone
	index  int32  // in sub.live or in stream.parked
	state  state
	flags  flags
}

type flags uint8

const (
	// optProgress and optFragment: the client asked for progress_notify and fragment.
	optProgress flags = 1 << iota
	optFragment
	// flagSpoke: it was sent an event since the last progress tick.
	flagSpoke
	// flagUnsynced: counted as unsynced.
	flagUnsynced
	// flagHistory: it started in the past and the end of its catch-up has not been answered yet.
	flagHistory
	// flagLog: behind, in the queue of those that need the log.
	flagLog
)

func (w *watcher) has(f flags) bool { return w.flags&f != 0 }

func (w *watcher) set(f flags, on bool) {
	if w.flags &^= f; on {
		w.flags |= f
	}
}

func (w *watcher) source() source {
	if w.has(flagLog) {
		return fromLog
	}
	return fromRing
}

// batch is what a catch-up pass found for one watcher, which may have been canceled since.
type batch struct {
	w      *watcher
	events []*Event // shared between watchers with equal cursors
	bytes  int
	next   int64 // the cursor after the batch
	header int64 // header revision
}

// cut returns how many of events, which must be in order, fit in limit bytes without cutting a revision (at least one
// revision if there is any), and their weight.
func cut(events []*Event, withPrev bool, limit int) (n, bytes int) {
	for n < len(events) {
		end, size := n, 0
		for rev := events[n].Rev(); end < len(events) && events[end].Rev() == rev; end++ {
			size += events[end].weight(withPrev)
		}
		if n > 0 && bytes+size > limit {
			break
		}
		n, bytes = end, bytes+size
	}
	return n, bytes
}
