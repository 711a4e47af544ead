package mvcc

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Turn is a Store's share of something that several Stores use, such as a fair.Flow. The Store enters before some work
// and leaves when it is done. Costs are bytes; each request costs requestCost plus its bytes.
type Turn interface {
	// Enter waits for a turn that costs at least least and at most most, and returns the cost that it allows. Leave
	// must be called after it. Errors: the context's; there is then no turn.
	Enter(ctx context.Context, least, most int64) (got int64, err error)
	Leave()
	// Charge reports that a turn has cost more than Enter has returned, by cost.
	Charge(cost int64)
}

const (
	// requestCost is what a request costs besides its bytes.
	requestCost = 1 << 10
	// rowCost is what a row that a read visits costs besides its bytes.
	rowCost = 64
	// readStep is the cost after which a long read waits for a new turn.
	readStep = 64 << 10
)

// reading is the turn of a read. Its zero value is for a part of a request that has a turn of its own.
type reading struct {
	turn  Turn
	spent int64 // since the last step was paid for
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

// row counts a row that has been visited. A read that has used up a step lets others go first. After an error it has no
// turn any more, and end does nothing.
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

// fetch waits for the lane's turn and takes the next group, as large as the turn allows. It returns nil when the queue
// is empty and closed or retired.
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
		if err != nil { // the Store is closing; process answers the requests
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
		l.leave() // the requests' clients have gone meanwhile
	}
}

// enter waits for a turn for requests that the lane has taken, unless it holds one.
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
		return engine.ErrUnavailable // the Store is closing or the client has gone; process finds out
	}
	l.entered = turn
	return nil
}

// pace is called, where there is no heavy lane, whenever a group has visited as many rows as a request may in a group
// with others. The group then continues with a heavy turn, so that short work never waits for it. A group that has lost
// its transaction by waiting has such a turn from the beginning.
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

// pace calls a function each time a number of rows has been visited.
type pace struct {
	stride, left int
	next         func() error
}

// spend counts visited rows. Errors: those of next.
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

// newPace returns the pace of a group of this lane; nil if there is none to keep.
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

// await waits until there are requests that a lane may take and no other lane waits for a turn with them. It returns
// the cost of the first of them, and the greatest cost of a group that begins with it. The caller calls within next. It
// returns 0 when the queue is empty and closed or retired.
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
	if q.sched != nil { // which of them follow the first is known only when they are taken
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

// first returns the request that the next group begins with; nil if there is none.
func (q *queue) first() *request {
	switch {
	case q.sched != nil && len(q.sched.ready) > 0:
		return q.sched.ready[0].req
	case len(q.reqs) > 0:
		return q.reqs[0]
	}
	return nil
}

// within, called after await, takes what take would return, but does not wait. cost bounds the sum of their costs,
// except that the first request is always taken.
func (q *queue) within(lane, limit, bytes int, cost int64) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turning = false
	reqs := q.pick(lane, limit, bytes, cost)
	q.wakeOne()
	q.wakeLast()
	return reqs
}
