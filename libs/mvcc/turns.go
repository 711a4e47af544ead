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
			return s.queue.take(l.id, s.o.GroupMax, s.o.GroupBytes)
		}
		l.entered = s.o.Groups
		if reqs := s.queue.within(l.id, s.o.GroupMax, s.o.GroupBytes, got); len(reqs) > 0 {
			return reqs
		}
		l.leave() // their clients have gone meanwhile
	}
}

// enter waits for a turn for requests that the lane has, if it has none.
func (l *lane) enter(ctx context.Context, reqs []*request) error {
	turn := l.s.o.Groups
	if l.heavy {
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

// leave ends the lane's turn, if it has one.
func (l *lane) leave() {
	if l.entered != nil {
		l.entered.Leave()
		l.entered = nil
	}
}

// await waits until there are requests, and returns what the first of them costs, and what all that may be in one group
// with it do; 0 when the queue is closed or retired, and empty.
func (q *queue) await(limit, bytes int) (least, most int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.reqs) == 0 {
		if q.over() {
			return 0, 0
		}
		q.wake.Wait()
	}
	sum := 0
	for i, r := range q.reqs[:min(limit, len(q.reqs))] {
		if sum += r.bytes; i > 0 && sum > bytes {
			break
		}
		most += r.cost()
	}
	return q.reqs[0].cost(), most
}

// within takes what take returns, but no more than costs so much unless the first does, and does not wait.
func (q *queue) within(lane, limit, bytes int, cost int64) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, r := range q.reqs[:min(limit, len(q.reqs))] {
		if cost -= r.cost(); n > 0 && cost < 0 {
			break
		}
		n++
	}
	return q.pick(lane, n, bytes)
}
