package mvcc

import (
	"container/heap"
	"container/list"

	"github.com/google/btree"
)

// spansMax bounds the ranges that the requests in the lines of a schedule have, unless a single request has more. Each
// range stands in the line of every key in it that other requests name, so this bounds the lines too.
const spansMax = 32

// schedule decides the order in which requests go to several lanes. Two requests that touch the same key go in the
// order in which they came, and never to two lanes at once. Of those that may go, the oldest goes first. It is a pure
// core: no lock, no clock.
//
// A request stands in a line at each key that it names. It may go when it is the first in all its lines and no lane
// holds one of these keys, except the lane that asks, for the group it is picking. So a waiting request costs nothing
// until the request before it at one of its keys has gone: it is looked at once for each of its keys, however many
// wait.
//
// A range names the key where it begins, and stands in the lines of all keys in it that exist. Two ranges overlap if
// one contains the beginning of the other. A new line within a range begins with the requests that have the range.
// Beyond spansMax ranges the next request with a range waits at a gate. All later requests wait behind it, in order,
// until ranges have gone.
type schedule struct {
	lines   *btree.BTreeG[*line] // at the keys of the requests that wait or are in flight
	ready   turns                // requests that may go to any lane
	wide    []*turn              // requests with ranges, in order, without those at the gate
	spans   int                  // ranges of wide
	gate    list.List            // of *turn
	lanes   [][]*line            // by lane: what its group holds
	first   int64                // places given to requests put back, below 0
	last    int64                // places given
	picks   uint64
	waiting int   // requests that wait, at the gate too
	blocked int   // lines in which a request waits for another
	probe   line  // to find a line with
	now     int64 // the queue's clock, for the times of requests; set by the caller of a method

	spansMax int
	steps    int64 // places in lines and ranges that were looked at: a measure of the work
}

// turn is a request's part in a schedule.
type turn struct {
	req     *request
	foot    conflictSet
	place   int64
	state   turnState
	posts   []*post
	granted int           // lines with a key that no lane holds in which it is the first
	index   int           // in a heap, or none
	gated   *list.Element // its place at the gate
	lane    int           // the lane that has taken it

	pick uint64 // the pick in which mine was counted
	mine int    // lines with a key that the picking lane holds in which it is the first

	// Memory for the first of posts. Most requests stand in one line.
	onePost  post
	onePlace [1]*post
}

// post returns a new place of the turn in a line.
func (t *turn) post(l *line) *post {
	if len(t.posts) > 0 {
		p := &post{turn: t, line: l}
		t.posts = append(t.posts, p)
		return p
	}
	t.onePost = post{turn: t, line: l}
	t.posts = append(t.onePlace[:0], &t.onePost)
	return &t.onePost
}

type turnState uint8

const (
	turnComing turnState = iota // not in all its lines yet
	turnGated
	turnWaiting
	turnTaken
	turnGone
)

const (
	none = -1 // no place in a heap
	free = -1 // no lane
)

// line is the requests that wait for a key, in order.
type line struct {
	key        string
	head, tail *post
	holder     int  // the lane whose group in flight touches the key, or free
	blocked    bool // a request in it waits for another
}

// post is a turn's place in a line.
type post struct {
	turn       *turn
	line       *line
	prev, next *post
	granted    bool
}

func newSchedule(lanes, spansMax int) *schedule {
	less := func(a, b *line) bool { return a.key < b.key }
	return &schedule{lines: btree.NewG(btreeDegree, less), lanes: make([][]*line, lanes), spansMax: spansMax}
}

// put adds a request behind all others, and returns its turn.
func (s *schedule) put(r *request, foot conflictSet) *turn {
	t := &turn{req: r, foot: foot, index: none}
	s.waiting++
	if s.gate.Len() > 0 || !s.fits(t) {
		t.state, t.gated = turnGated, s.gate.PushBack(t)
		return t
	}
	s.admit(t)
	return t
}

// fits reports whether the gate is open for a request.
func (s *schedule) fits(t *turn) bool {
	n := len(t.foot.ranges)
	return n == 0 || len(s.wide) == 0 || s.spans+n <= s.spansMax
}

// open lets those requests through the gate that now fit.
func (s *schedule) open() {
	for e := s.gate.Front(); e != nil && s.fits(e.Value.(*turn)); e = s.gate.Front() {
		t := s.gate.Remove(e).(*turn)
		t.gated = nil
		s.admit(t)
	}
}

// admit puts a request into its lines.
func (s *schedule) admit(t *turn) {
	s.last++
	t.place, t.state = s.last, turnComing
	for _, k := range t.foot.keys {
		s.join(t, s.line(k))
	}
	for _, r := range t.foot.ranges {
		s.join(t, s.line(string(r.key)))
		s.within(r, func(l *line) { s.join(t, l) })
	}
	if n := len(t.foot.ranges); n > 0 {
		s.wide = append(s.wide, t)
		s.spans += n
	}
	t.state = turnWaiting
	s.check(t)
}

// line returns the line at a key. A new one begins with the requests whose ranges contain the key.
func (s *schedule) line(key string) *line {
	s.probe.key = key
	if l, ok := s.lines.Get(&s.probe); ok {
		return l
	}
	l := &line{key: key, holder: free}
	s.lines.ReplaceOrInsert(l)
	if len(s.wide) == 0 {
		return l
	}
	k := []byte(key)
	for _, w := range s.wide {
		if s.steps++; !w.foot.covers(k) {
			continue
		}
		if w.state == turnTaken {
			w.post(l) // needed if it is put back
			s.hold(l, w.lane)
		} else {
			s.join(w, l)
		}
	}
	return l
}

func (s *schedule) within(r span, visit func(*line)) {
	s.lines.AscendGreaterOrEqual(&line{key: string(r.key)}, func(l *line) bool {
		if !r.has([]byte(l.key)) {
			return false
		}
		visit(l)
		return true
	})
}

// join puts t at the end of a line, unless it stands there already.
func (s *schedule) join(t *turn, l *line) {
	s.steps++
	if l.tail != nil && l.tail.turn == t {
		return
	}
	p := t.post(l)
	p.prev = l.tail
	if l.tail == nil {
		l.head = p
	} else {
		l.tail.next = p
	}
	l.tail = p
	s.count(l)
	s.grant(l)
}

// count keeps blocked up to date, after a change of a line.
func (s *schedule) count(l *line) {
	was := l.blocked
	if l.blocked = l.head != nil && (l.holder != free || l.head != l.tail); l.blocked == was {
		return
	}
	if was {
		s.blocked--
	} else {
		s.blocked++
	}
}

// leave takes a post out of its line.
func (s *schedule) leave(p *post) {
	l := p.line
	if p.prev == nil {
		l.head = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.tail = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.prev, p.next, p.granted = nil, nil, false
	s.count(l)
}

// grant tells the first request of a line that its key is free. It removes a line that is no longer needed.
func (s *schedule) grant(l *line) {
	if l.holder != free {
		return
	}
	if l.head == nil {
		s.lines.Delete(l)
		return
	}
	if p := l.head; !p.granted {
		p.granted = true
		p.turn.granted++
		s.check(p.turn)
	}
}

// check makes t ready if nothing is in its way.
func (s *schedule) check(t *turn) {
	s.steps++
	if t.state == turnWaiting && t.index == none && t.granted == len(t.posts) {
		heap.Push(&s.ready, t)
		t.isReady(s.now)
	}
}

// isReady records the time when t first had no request before it.
func (t *turn) isReady(now int64) {
	if r := t.req; r != nil && r.times.ready == 0 {
		r.times.ready = now
	}
}

// hold records that a lane's group in flight touches a line's key.
func (s *schedule) hold(l *line, lane int) {
	if l.holder == free {
		l.holder = lane
		s.lanes[lane] = append(s.lanes[lane], l)
		s.count(l)
	}
}

// pick returns the requests of the next group of a lane that has none in flight. They are at most limit, and within
// bytes and cost unless the first alone is larger.
func (s *schedule) pick(lane, limit, bytes int, cost int64) (into []*request) {
	s.picks++
	var mine turns // requests that wait only for what this group holds
	for sum := 0; len(into) < limit; {
		from := &s.ready
		if len(mine) > 0 && (len(s.ready) == 0 || mine[0].place < s.ready[0].place) {
			from = &mine
		}
		if len(*from) == 0 {
			break
		}
		r := (*from)[0].req
		if cost -= r.cost(); len(into) > 0 && (sum+r.bytes > bytes || cost < 0) {
			break
		}
		s.take(heap.Pop(from).(*turn), lane, &mine)
		into = append(into, r)
		sum += r.bytes
	}
	for _, t := range mine {
		t.index = none
	}
	return into
}

// take takes t out of its lines. The requests behind it may then follow it into the same group.
func (s *schedule) take(t *turn, lane int, mine *turns) {
	t.state, t.lane, t.granted = turnTaken, lane, 0
	t.isReady(s.now) // if it follows another into the same group
	s.waiting--
	for _, p := range t.posts {
		s.steps++
		l := p.line
		s.leave(p)
		s.hold(l, lane)
		if l.head == nil {
			continue
		}
		n := l.head.turn
		if n.pick != s.picks {
			n.pick, n.mine = s.picks, 0
		}
		if n.mine++; n.granted+n.mine == len(n.posts) {
			heap.Push(mine, n)
		}
	}
}

// putBack returns requests that a lane has taken to the front. The lane's group has not landed yet.
func (s *schedule) putBack(reqs []*request) {
	s.first -= int64(len(reqs))
	for i := len(reqs) - 1; i >= 0; i-- {
		t := reqs[i].turn
		t.place, t.state = s.first+int64(i), turnWaiting
		s.waiting++
		for _, p := range t.posts {
			s.steps++
			l := p.line
			if p.next = l.head; p.next == nil {
				l.tail = p
			} else {
				p.next.prev = p
			}
			l.head = p
			s.count(l)
		}
		s.check(t)
	}
}

// landed reports that the lane's group is no longer in flight.
func (s *schedule) landed(lane int) {
	s.dropWide(func(t *turn) bool { return t.state == turnTaken && t.lane == lane })
	held := s.lanes[lane]
	s.lanes[lane] = nil
	for _, l := range held {
		s.steps++
		l.holder = free
		s.count(l)
		s.grant(l)
	}
	s.open()
}

// remove takes out a request that nobody waits for any more. It does nothing if a lane has it, and returns false.
func (s *schedule) remove(t *turn) bool {
	switch t.state {
	case turnGated:
		s.gate.Remove(t.gated)
	case turnWaiting:
		if t.index != none {
			heap.Remove(&s.ready, t.index)
		}
		t.state = turnGone
		if len(t.foot.ranges) > 0 {
			s.dropWide(func(o *turn) bool { return o == t })
		}
		for _, p := range t.posts {
			s.steps++
			s.leave(p)
			s.grant(p.line)
		}
	default:
		return false
	}
	t.state = turnGone
	s.waiting--
	s.open()
	return true
}

// dropWide forgets the ranges of some requests.
func (s *schedule) dropWide(drop func(*turn) bool) {
	kept := s.wide[:0]
	for _, t := range s.wide {
		if s.steps++; drop(t) {
			s.spans -= len(t.foot.ranges)
		} else {
			kept = append(kept, t)
		}
	}
	clear(s.wide[len(kept):])
	s.wide = kept
}

// turns is a heap of the requests with the smallest place first.
type turns []*turn

func (h turns) Len() int           { return len(h) }
func (h turns) Less(i, j int) bool { return h[i].place < h[j].place }
func (h turns) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *turns) Push(x any) {
	t := x.(*turn)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *turns) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h, t.index = (*h)[:last], none
	return t
}
