package mvcc

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Turn is a Store's part in something that several Stores share, such as a fair.Flow: it waits in front of work, and
// says when that has been done. Costs are bytes; each request counts as requestCost and its bytes.
type Turn interface {
	// Enter waits for a turn that costs least, or up to most if it may take as much, and returns what it may take.
	// After it Leave is called. Errors: the context's; then there is no turn.
	Enter(ctx context.Context, least, most int64) (got int64, err error)
	Leave()
	// Charge says that a turn has cost more than what Enter has returned.
	Charge(cost int64)
}

const (
	// requestCost is what a request costs beside its bytes.
	requestCost = 1 << 10
	// rowCost is what a row costs that a read visits, beside its bytes.
	rowCost = 64
	// readStep is after how much a read that goes on waits for its turn again.
	readStep = 64 << 10
)

// reading is the turn of a read. Its zero value is that of a part of a request that has a turn of its own.
type reading struct {
	turn  Turn
	spent int64 // since it was last paid for
}

// beginRead waits for the turn of a read. The caller calls end if there is no error.
func (s *Store) beginRead(ctx context.Context) (r reading, err error) {
	if s.o.Reads == nil {
		return r, nil
	}
	if _, err := s.o.Reads.Enter(ctx, requestCost, requestCost); err != nil {
		return r, err
	}
	return reading{turn: s.o.Reads, spent: -requestCost}, nil
}

// row counts a row that has been visited. A read that has taken a step lets others go first. After an error there is
// no turn any more, and end does nothing.
func (r *reading) row(ctx context.Context, kv *KV) error {
	if r == nil || r.turn == nil {
		return nil
	}
	if r.spent += int64(rowCost + len(kv.Key) + len(kv.Value)); r.spent < readStep {
		return nil
	}
	cost := r.spent
	r.spent = 0
	turn := r.turn
	turn.Leave()
	r.turn = nil
	if _, err := turn.Enter(ctx, cost, cost); err != nil {
		return err
	}
	r.turn = turn
	return nil
}

// end ends the turn.
func (r *reading) end() {
	if r.turn == nil {
		return
	}
	if r.spent > 0 {
		r.turn.Charge(r.spent)
	}
	r.turn.Leave()
	r.turn = nil
}

// cost is what a request costs in its group.
func (r *request) cost() int64 { return requestCost + int64(r.bytes) }

func costOf(reqs []*request) (n int64) {
	for _, r := range reqs {
		n += r.cost()
	}
	return n
}

// fetch takes the next group of the lane when it has its turn: as much as it may. It returns nil when the queue is
// closed or retired, and empty.
func (l *lane) fetch() []*request {
	s := l.s
	if s.o.Groups == nil {
		return s.queue.take(l.id, s.o.GroupMax, s.o.GroupBytes)
	}
	for {
		least, most := s.queue.await(s.o.GroupMax, s.o.GroupBytes)
		if least == 0 {
			return nil
		}
		got, err := s.o.Groups.Enter(s.work, least, most)
		if err != nil { // the Store is closing: process answers them
			s.queue.within(l.id, 0, 0, 0)
			return s.queue.take(l.id, s.o.GroupMax, s.o.GroupBytes)
		}
		l.entered = s.o.Groups
		if reqs := s.queue.within(l.id, s.o.GroupMax, s.o.GroupBytes, got); len(reqs) > 0 {
			if over := got - costOf(reqs); over > 0 {
				l.entered.Charge(-over)
			}
			return reqs
		}
		l.entered.Charge(-got)
		l.leave() // their clients have gone meanwhile
	}
}

// enter waits for a turn for requests that the lane has, if it has none.
func (l *lane) enter(ctx context.Context, reqs []*request) error {
	turn := l.s.o.Groups
	if l.heavy || l.long {
		turn = l.s.o.Heavies
	}
	if l.entered != nil || turn == nil {
		return nil
	}
	cost := costOf(reqs)
	if _, err := turn.Enter(ctx, cost, cost); err != nil {
		return engine.ErrUnavailable // the Store is closing, or the request's client has gone: process finds that
	}
	l.entered = turn
	return nil
}

// pace is what a group does, where there is no heavy lane, whenever it has visited as much as a request may in a group
// with others: it goes on with a turn of its own among the heavy ones, so that what is short never waits for it. One
// that has lost its transaction by that has such a turn from the beginning.
func (l *lane) pace() error {
	turn, cost := l.s.o.Heavies, int64(l.s.o.LightRows)*rowCost
	if l.long {
		turn.Charge(cost)
		return nil
	}
	l.leave()
	l.slow = true
	if _, err := turn.Enter(l.s.work, cost, cost); err != nil {
		return engine.ErrUnavailable // the Store is closing
	}
	l.entered = turn
	return nil
}

// pace has something done whenever so many rows have been visited.
type pace struct {
	stride, left int
	next         func() error
}

// spend counts visited rows. Errors: next's.
func (p *pace) spend(rows int) error {
	if p == nil {
		return nil
	}
	if p.left -= rows; p.left >= 0 {
		return nil
	}
	p.left = p.stride
	return p.next()
}

// newPace is that of a group of this lane; nil: there is none to keep.
func (l *lane) newPace() *pace {
	if l.s.o.Heavies == nil || l.heavy || l.hasHeavy {
		return nil
	}
	return &pace{stride: l.s.o.LightRows, left: l.s.o.LightRows, next: l.pace}
}

// leave ends the lane's turn, if it has one.
func (l *lane) leave() {
	if l.entered != nil {
		l.entered.Leave()
		l.entered = nil
	}
}

// await waits until there are requests that a lane may take, and no other lane waits for a turn with them. It returns
// what the first of them costs, and what those that may be in one group with it do at most; the caller calls within.
// 0 when the queue is closed or retired, and empty.
func (q *queue) await(limit, bytes int) (least, most int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.first() == nil || q.turning {
		if q.over() {
			return 0, 0
		}
		q.wake.Wait()
	}
	q.turning = true
	least = q.first().cost()
	if q.sched != nil { // which of them follow the first only shows when they are taken
		most = int64(min(limit, q.len()))*requestCost + int64(min(bytes, q.bytes))
		return least, max(least, most)
	}
	sum := 0
	for i, r := range q.reqs[:min(limit, len(q.reqs))] {
		if sum += r.bytes; i > 0 && sum > bytes {
			break
		}
		most += r.cost()
	}
	return least, most
}

// first is the request that the next group begins with; nil: there is none.
func (q *queue) first() *request {
	switch {
	case q.sched != nil && len(q.sched.ready) > 0:
		return q.sched.ready[0].req
	case len(q.reqs) > 0:
		return q.reqs[0]
	}
	return nil
}

// within takes, after await, what take returns, but no more than costs so much unless the first does, and does not
// wait.
func (q *queue) within(lane, limit, bytes int, cost int64) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turning = false
	reqs := q.pick(lane, limit, bytes, cost)
	q.wakeOne()
	q.wakeLast()
	return reqs
}
