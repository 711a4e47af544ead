package watch

import (
	"math"
	"time"
)

// ProgressAllID is the watch id of a progress notification that speaks for all watches of its stream.
const ProgressAllID = -1

// invalidID is the watch id of a creation that failed.
const invalidID = -1

// CreateRequest asks for a watch; its fields are those of etcd's WatchCreateRequest.
type CreateRequest struct {
	Key, RangeEnd  []byte
	StartRevision  int64
	WatchID        int64
	Filter         Filter
	PrevKV         bool
	ProgressNotify bool
	Fragment       bool
}

// Response is one message to the client: etcd's WatchResponse without the constant part of its header.
type Response struct {
	WatchID         int64
	Revision        int64 // header.revision; 0 only on a cancel because of compaction, as in etcd
	CompactRevision int64
	CancelReason    string
	// Events are shared and must not be changed. PrevKV says which of their wire forms to send.
	Events []*Event
	PrevKV bool
	// Fragment: the client allows this response to be split between events.
	Fragment bool
	Created  bool
	Canceled bool
}

// streamState is a stream as the core knows it.
type streamState struct {
	seq      uint64 // tells streams apart in an order
	conn     *conn  // nil: not limited
	access   Access // nil: everything is allowed
	watchers map[int64]*watcher
	nextID   int64

	// The three queues of what is to be sent, in the order in which a turn takes from them.
	controls fifo[control]
	loaded   fifo[batch]
	ready    fifo[*sub]

	loadedBytes int
	parked      []*watcher
	unsynced    int // behind, parked, loaded
	behind      int
	compacted   int

	maxStart int64 // at least the greatest start of its watchers

	progressRequests int
	progressRev      int64 // an answer must not be below this
	awaited          bool  // in core.progress
	slot             int   // which share of the interval its periodic notifications belong to
	tickDue          bool

	asleep bool // its sender found nothing to do and waits to be woken
}

// open adds a stream.
func (c *core) open(s *Stream) {
	s.watchers = map[int64]*watcher{}
	s.seq = c.seq
	c.seq++
	c.streams[s] = struct{}{}
}

// conn is a client's connection, for the limits. It exists while it has streams.
type conn struct {
	id                any
	streams, watchers int
}

// connect counts a stream that is about to be opened on a connection, unless the connection has as many as it may.
func (c *core) connect(s *Stream, id any) bool {
	if id == nil || c.opts.MaxStreamsPerConn <= 0 && c.opts.MaxWatchesPerConn <= 0 {
		return true
	}
	cn := c.conns[id]
	if cn == nil {
		cn = &conn{id: id}
		c.conns[id] = cn
	}
	if c.opts.MaxStreamsPerConn > 0 && cn.streams >= c.opts.MaxStreamsPerConn {
		return false
	}
	cn.streams++
	s.conn = cn
	return true
}

// disconnect undoes connect.
func (c *core) disconnect(s *Stream) {
	if cn := s.conn; cn != nil {
		if cn.streams--; cn.streams == 0 {
			delete(c.conns, cn.id)
		}
		s.conn = nil
	}
}

// count updates the numbers of watches.
func (c *core) count(s *Stream, d int) {
	c.watchers += d
	if s.conn != nil {
		s.conn.watchers += d
	}
}

// create registers a watch and queues its created response. head is the keyspace's revision, read after the request
// came, and compact its compact revision. A refusal is a created+canceled response. Checks are in etcd's order.
func (c *core) create(s *Stream, r CreateRequest, head, compact int64) {
	sp, reason := specOf(r)
	if s.access != nil && r.StartRevision >= 0 {
		if denied := s.mayWatch(&r); denied != "" {
			reason = denied
		}
	}
	id, reason := c.admit(s, r.WatchID, reason)
	if reason != "" {
		c.control(s, control{id: invalidID, rev: head, reason: reason, created: true, canceled: true})
		return
	}
	w := &watcher{id: id, sub: c.join(s, sp), start: r.StartRevision, next: r.StartRevision}
	if w.start == 0 {
		// From now on means after head, wherever the hub is.
		w.start, w.next = head, head+1
	}
	w.set(optProgress, r.ProgressNotify)
	w.set(optFragment, r.Fragment)
	s.watchers[id] = w
	s.maxStart = max(s.maxStart, w.start)
	c.count(s, 1)
	c.control(s, control{id: id, rev: head, created: true})
	if r.StartRevision != 0 && w.start < compact {
		c.expire(w, compact)
		return
	}
	past := w.next <= c.position
	c.settle(w)
	w.set(flagHistory, past && w.state == stateLive)
}

// mayWatch asks the stream's Access whether a watch may be created.
func (s *Stream) mayWatch(r *CreateRequest) (reason string) {
	key := string(r.Key)
	if key == "" {
		key = "\x00"
	}
	return s.access.MayWatch(key, string(r.RangeEnd), false)
}

// admit checks limits and picks the id.
func (c *core) admit(s *Stream, id int64, reason string) (int64, string) {
	switch {
	case reason != "":
		return 0, reason
	case c.opts.MaxWatches > 0 && c.watchers >= c.opts.MaxWatches,
		c.opts.MaxWatchesPerStream > 0 && len(s.watchers) >= c.opts.MaxWatchesPerStream,
		c.opts.MaxWatchesPerConn > 0 && s.conn != nil && s.conn.watchers >= c.opts.MaxWatchesPerConn:
		c.counters.Refused++
		return 0, reasonTooMany
	case id != 0:
		if s.watchers[id] != nil {
			return 0, reasonDuplicateID
		}
		return id, ""
	}
	for s.watchers[s.nextID] != nil {
		s.nextID++
	}
	id = s.nextID
	s.nextID++
	return id, ""
}

// specOf checks the range of a request as etcd does.
func specOf(r CreateRequest) (spec, string) {
	sp := spec{filter: r.Filter, prevKV: r.PrevKV}
	key := string(r.Key)
	if key == "" {
		key = "\x00"
	}
	switch end := r.RangeEnd; {
	case r.StartRevision < 0:
		return sp, reasonCompacted
	case len(end) == 0:
		sp.bounds = keyBounds(key)
	case len(end) == 1 && end[0] == 0:
		sp.bounds = rangeBounds(key, "")
	case key >= string(end):
		return sp, reasonEmptyRange
	default:
		sp.bounds = rangeBounds(key, string(end))
	}
	return sp, ""
}

// control is a response without events. It is small, because a client that comes back makes many of them wait.
type control struct {
	id       int64
	rev      int64 // header revision
	compact  int64
	reason   string
	created  bool
	canceled bool
}

func (r control) response() Response {
	return Response{
		WatchID:         r.id,
		Revision:        r.rev,
		CompactRevision: r.compact,
		CancelReason:    r.reason,
		Created:         r.created,
		Canceled:        r.canceled,
	}
}

func (c *core) control(s *Stream, r control) {
	s.controls.push(r)
	c.rouse(s)
}

// expire cancels a watcher whose history is compacted. Its id stays taken until the client cancels it, as in etcd.
func (c *core) expire(w *watcher, compact int64) {
	s := w.sub.stream
	c.detach(w)
	c.leave(w)
	w.state = stateCompacted
	s.compacted++
	c.counters.Compacted++
	c.control(s, control{id: w.id, compact: compact, canceled: true})
}

// cancel ends a watch and queues the answer. An unknown id gets no answer, as in etcd. rev is the revision of the
// answer.
func (c *core) cancel(s *Stream, id, rev int64) {
	w := s.watchers[id]
	if w == nil {
		return
	}
	c.forget(s, w)
	c.refill(s)
	c.control(s, control{id: id, rev: rev, canceled: true})
}

func (c *core) forget(s *Stream, w *watcher) {
	if w.state == stateCompacted {
		s.compacted--
	} else {
		c.detach(w)
		c.leave(w)
	}
	w.state = stateGone
	delete(s.watchers, w.id)
	c.count(s, -1)
}

// closeSome removes up to n watchers of a stream that is being closed. It says whether all are removed.
func (c *core) closeSome(s *Stream, n int) bool {
	for _, w := range s.watchers {
		if n--; n < 0 {
			return false
		}
		c.forget(s, w)
	}
	s.controls, s.loaded, s.ready = fifo[control]{}, fifo[batch]{}, fifo[*sub]{}
	s.progressRequests = 0
	c.disconnect(s)
	delete(c.streams, s)
	return true
}

// requestProgress asks for a notification for all watches, with a revision of at least head. Unless all watches are
// synced and have started, the request is silently dropped, now or when its turn comes (etcd's rule).
func (c *core) requestProgress(s *Stream, head int64) {
	if !c.allSynced(s, max(head, c.position)) {
		return
	}
	s.progressRequests = min(s.progressRequests+1, maxPendingProgress)
	s.progressRev = max(s.progressRev, head)
	if c.position >= s.progressRev {
		c.rouse(s)
	} else if !s.awaited {
		s.awaited = true
		c.progress = append(c.progress, s)
	}
}

// allSynced says whether a notification of revision rev is true for all watches of the stream.
func (c *core) allSynced(s *Stream, rev int64) bool {
	if s.unsynced > 0 || s.compacted > 0 || len(s.watchers) == 0 {
		return false
	}
	if s.maxStart > rev {
		s.maxStart = math.MinInt64
		for _, w := range s.watchers {
			s.maxStart = max(s.maxStart, w.start)
		}
	}
	return s.maxStart <= rev
}

// wakeProgress wakes the streams whose progress requests the position has reached.
func (c *core) wakeProgress() {
	if len(c.progress) == 0 {
		return
	}
	kept := c.progress[:0]
	for _, s := range c.progress {
		if s.progressRequests > 0 && c.position < s.progressRev {
			kept = append(kept, s)
			continue
		}
		s.awaited = false
		c.rouse(s)
	}
	clear(c.progress[len(kept):])
	c.progress = kept
}

// tick makes periodic notifications due on the streams of one slot.
func (c *core) tick(slot int) {
	for s := range c.streams {
		if s.slot == slot {
			s.tickDue = true
			c.rouse(s)
		}
	}
}

// take appends to turn what the stream should send next, within the limits of the turn. If it appends nothing, the
// stream sleeps until it is in core.wake. The order is the order of sending: controls first, because a created response
// precedes the watch's events and a canceled one ends them; progress last, and only if no event is left.
func (c *core) take(s *Stream, turn []Response) []Response {
	base := len(turn)
	for n := min(maxTurnControls, s.controls.len()); n > 0; n-- {
		turn = append(turn, s.controls.pop().response())
	}
	if s.controls.len() == 0 {
		turn = c.takeLoaded(s, turn)
		turn = c.takeReady(s, turn)
		if s.loaded.len() == 0 && s.ready.len() == 0 {
			turn = c.takeProgress(s, turn)
		}
	}
	s.asleep = len(turn) == base
	c.counters.Responses += uint64(len(turn) - base)
	return turn
}

// takeLoaded takes everything that catch-up passes have left. It is bounded by what a stream may have loaded.
func (c *core) takeLoaded(s *Stream, turn []Response) []Response {
	for s.loaded.len() > 0 {
		b := s.loaded.pop()
		s.loadedBytes -= b.bytes
		if b.w.state != stateLoaded {
			continue // canceled since
		}
		turn = append(turn, c.response(b.w, b.events, b.header))
		b.w.next = b.next
		c.settle(b.w)
	}
	c.refill(s)
	return turn
}

func (c *core) response(w *watcher, events []*Event, header int64) Response {
	w.set(flagSpoke, true)
	c.counters.Events += uint64(len(events))
	return Response{
		WatchID: w.id, Revision: header, Events: events, PrevKV: w.sub.group.spec.prevKV, Fragment: w.has(optFragment),
	}
}

// takeReady serves dirty subs, each once, until the turn is full.
func (c *core) takeReady(s *Stream, turn []Response) []Response {
	budget := c.turnBytes()
	for n := s.ready.len(); n > 0 && budget > 0; n-- {
		sb := s.ready.pop()
		if sb.live.len() == 0 {
			sb.since = 0 // its watchers have gone since it was marked
			continue
		}
		var done bool
		if turn, done = c.serve(sb, turn, &budget); !done {
			s.ready.push(sb)
		}
	}
	return turn
}

// serve appends one response for each watcher of a dirty sub. It goes round, so that all watchers get their share if
// the budget ends before them. done means that nothing is left and the sub is idle or gone.
func (c *core) serve(sb *sub, turn []Response, budget *int) (_ []Response, done bool) {
	var fallen []*watcher
	var share pending
	n, more := int32(sb.live.len()), false
	sb.at %= n
	for left := n; left > 0; left-- {
		if *budget <= 0 {
			more = true
			break
		}
		w := sb.live.at(int(sb.at))
		sb.at = (sb.at + 1) % n
		switch {
		case !sb.group.covers(max(w.next, sb.since)):
			fallen = append(fallen, w)
		case sb.group.lastRev() >= w.next:
			share.find(sb.group, w.next, c.responseBytes())
			header := share.last()
			if share.more {
				w.next, more = header+1, true
			} else {
				w.next = c.position + 1
				if w.has(flagHistory) {
					header = c.position
					w.set(flagHistory, false)
				}
			}
			*budget -= share.bytes
			turn = append(turn, c.response(w, share.events, header))
		}
	}
	for _, w := range fallen {
		c.fall(w, sb.since)
	}
	switch {
	case sb.live.len() == 0:
		sb.since = 0
	case more:
		return turn, false
	default:
		sb.group.setIdle(sb)
	}
	return turn, true
}

// fall moves a live watcher that the ring has left behind to the catch-up.
func (c *core) fall(w *watcher, since int64) {
	c.detach(w)
	w.next = max(w.next, since)
	c.counters.Fallen++
	c.settle(w)
}

// takeProgress appends the notifications that are due. By then everything up to the position has been taken from the
// stream's live watchers.
func (c *core) takeProgress(s *Stream, turn []Response) []Response {
	base := len(turn)
	if s.tickDue {
		s.tickDue = false
		for _, w := range s.watchers {
			if !w.has(optProgress) {
				continue
			}
			if w.state == stateLive && !w.has(flagSpoke) && c.position >= w.start {
				turn = append(turn, Response{WatchID: w.id, Revision: c.position})
			}
			w.set(flagSpoke, false)
		}
	}
	if s.progressRequests > 0 && c.position >= s.progressRev {
		if c.allSynced(s, c.position) {
			for range s.progressRequests {
				turn = append(turn, Response{WatchID: ProgressAllID, Revision: c.position})
			}
		}
		s.progressRequests, s.progressRev = 0, 0
	}
	c.counters.Progress += uint64(len(turn) - base)
	return turn
}

// pending is the part of a group's recent events that a watcher has not got. Watchers with equal cursors share it.
type pending struct {
	next   int64
	events []*Event
	bytes  int
	more   bool // the response bound cut it
}

func (p *pending) find(g *group, next int64, limit int) {
	if p.events != nil && p.next == next {
		return
	}
	all := g.from(next)
	n, bytes := cut(all, g.spec.prevKV, limit)
	*p = pending{next: next, events: append([]*Event(nil), all[:n]...), bytes: bytes, more: n < len(all)}
}

func (p *pending) last() int64 { return p.events[len(p.events)-1].Rev() }

// oldest returns the earliest arrival among the live events of a response, or 0.
func (r *Response) oldest() time.Duration {
	for _, e := range r.Events {
		if e.at > 0 {
			return e.at
		}
	}
	return 0
}
