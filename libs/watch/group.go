package watch

// group is what all watchers with the same spec share: one place in the matcher and the recent events that matched.
type group struct {
	spec spec
	// recent are the matched events that the ring still holds, in order.
	recent fifo[*Event]
	// complete: every matched event with revision > complete is in recent, if it was applied at all. It starts as the hub's position
	// when the group was made and rises when the ring drops a record that matched.
	complete int64
	// subs[:idle] have nothing pending; the others are dirty.
	subs []*sub
	idle int
	// watchers counts all watchers with this spec, whatever their state; the group goes when it is 0.
	watchers int
}

// covers reports whether a watcher that needs everything from revision next on can be served from recent.
func (g *group) covers(next int64) bool { return next > g.complete }

// lastRev is the revision of the newest recent event, or 0.
func (g *group) lastRev() int64 {
	if g.recent.len() == 0 {
		return 0
	}
	return g.recent.last().Rev()
}

// drop lets go of the events of revision <= rev.
func (g *group) drop(rev int64) {
	for g.recent.len() > 0 && g.recent.at(0).Rev() <= rev {
		g.recent.pop()
	}
	g.complete = max(g.complete, rev)
}

// sub is the live watchers of one group on one stream: the unit that a match marks dirty, so that a match costs the
// number of idle streams that have such a watcher, not the number of watchers.
type sub struct {
	stream *Stream
	group  *group
	live   []*watcher
	at     int // index in live where the next turn goes on
	index  int // in group.subs
	dirty  bool
	// since is the revision that made the sub dirty: its watchers have got everything before it.
	since int64
}

func (g *group) addSub(s *sub) {
	s.index = len(g.subs)
	g.subs = append(g.subs, s)
	g.setIdle(s)
}

func (g *group) removeSub(s *sub) {
	if s.index < g.idle {
		g.setDirty(s)
	}
	last := g.subs[len(g.subs)-1]
	g.subs[s.index], last.index = last, s.index
	g.subs[len(g.subs)-1] = nil
	g.subs = g.subs[:len(g.subs)-1]
}

// setIdle moves s from the dirty part of subs to the idle part.
func (g *group) setIdle(s *sub) {
	g.swap(s, g.subs[g.idle])
	g.idle++
}

// setDirty moves s from the idle part of subs to the dirty part.
func (g *group) setDirty(s *sub) {
	g.idle--
	g.swap(s, g.subs[g.idle])
}

func (g *group) swap(a, b *sub) {
	g.subs[a.index], g.subs[b.index] = b, a
	a.index, b.index = b.index, a.index
}

// state of a watcher. The transitions: created → live or behind; live → behind (fell off the ring); behind ⇄ parked (its stream has
// no room); behind → loaded (a pass found events) → live or behind; behind → live (a pass found none and joined);
// anything → gone (canceled), behind → compacted → gone.
type state uint8

const (
	// stateLive: member of a sub; served from its group's recent events.
	stateLive state = iota + 1
	// stateBehind: in the catch-up queue.
	stateBehind
	// stateParked: would be behind, but the stream has as much as it may hold; back in the queue when that has been taken.
	stateParked
	// stateLoaded: a pass left a batch for it, which its stream has not taken yet.
	stateLoaded
	// stateCompacted: canceled by the server because of compaction; only its id is still taken, as in etcd, until the client cancels it.
	stateCompacted
	// stateGone: canceled or its stream closed.
	stateGone
)

// watcher is a cursor. Invariant: the client has been handed every event of its spec with revision in [start, next), and none at or after
// next; for a live watcher of a sub that is not dirty, also everything up to the hub's position.
type watcher struct {
	id     int64
	start  int64  // first revision it wants
	next   int64  // cursor
	served uint64 // number of the pass after which it began to wait for one
	seq    uint64 // breaks ties between equal cursors
	stream *Stream
	group  *group
	batch  *batch // stateLoaded
	index  int32  // in sub.live or in stream.parked
	state  state
	opt    watcherOptions
	// spoke: it was sent an event since the last progress tick.
	spoke   bool
	lagging bool // counted as unsynced
	// history: it started in the past and the end of its catch-up has not been answered yet.
	history bool
}

type watcherOptions uint8

const (
	optProgress watcherOptions = 1 << iota
	optFragment
)

func (w *watcher) has(o watcherOptions) bool { return w.opt&o != 0 }

// batch is what a catch-up pass found for one watcher.
type batch struct {
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
