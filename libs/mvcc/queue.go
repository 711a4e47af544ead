package mvcc

import (
	"context"
	"sync"
)

// queueBytesMax bounds the bytes of the requests that wait.
const queueBytesMax = 256 << 20

// request is a mutation on its way through the queue and a group.
type request struct {
	m     mutation
	ctx   context.Context
	bytes int
	foot  footprint // if there are several lanes

	res  Result
	err  error
	done chan struct{} // closed when res or err is final
}

// queue holds the requests that wait for a group. With several lanes it keeps requests that touch the same keys out of
// different groups in flight (design §4).
type queue struct {
	mu     sync.Mutex
	wake   sync.Cond
	reqs   []*request
	bytes  int
	max    int
	closed bool
	busy   []*footprint // per lane: what its group in flight touches; nil with one lane
}

func (q *queue) init(limit, lanes int) {
	q.wake.L = &q.mu
	q.max = limit
	if lanes > 1 {
		q.busy = make([]*footprint, lanes)
	}
}

// put queues r. Errors: ErrTooManyRequests, ErrClosed.
func (q *queue) put(r *request) error {
	if q.busy != nil {
		r.foot = footprintOf(r.m)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case len(q.reqs) >= q.max, q.bytes+r.bytes > queueBytesMax:
		return ErrTooManyRequests
	}
	q.reqs = append(q.reqs, r)
	q.bytes += r.bytes
	q.wake.Signal()
	return nil
}

// putBack returns requests to the front: they have been taken, but another group must run first.
func (q *queue) putBack(reqs []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reqs = append(append(make([]*request, 0, len(reqs)+len(q.reqs)), reqs...), q.reqs...)
	for _, r := range reqs {
		q.bytes += r.bytes
	}
	q.wake.Signal()
}

// close refuses further requests. Those that wait are still served; the lanes end when none is left.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Broadcast()
}

// waiting says how many requests wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.reqs)
}

// take waits for requests and returns those of the next group of a lane: at most limit, and bytes unless a single one is
// larger. It returns nil when the queue is closed and empty.
func (q *queue) take(lane, limit, bytes int) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if reqs := q.pick(lane, limit, bytes); len(reqs) > 0 {
			return reqs
		}
		if q.closed && len(q.reqs) == 0 {
			return nil
		}
		q.wake.Wait()
	}
}

func (q *queue) pick(lane, limit, bytes int) (into []*request) {
	sum, kept := 0, 0
	var mine, passed *footprint
	if q.busy != nil {
		mine, passed = &footprint{}, &footprint{}
	}
	for i, r := range q.reqs {
		if len(into) >= limit || len(into) > 0 && sum+r.bytes > bytes {
			kept += copy(q.reqs[kept:], q.reqs[i:])
			break
		}
		// A request that has to wait keeps its place before later ones that touch the same keys.
		if q.busy != nil && (q.inFlight(lane, &r.foot) || passed.overlaps(&r.foot)) {
			passed.add(&r.foot)
			q.reqs[kept] = r
			kept++
			continue
		}
		if mine != nil {
			mine.add(&r.foot)
		}
		into = append(into, r)
		sum += r.bytes
	}
	clear(q.reqs[kept:])
	q.reqs = q.reqs[:kept]
	q.bytes -= sum
	if q.busy != nil && len(into) > 0 {
		q.busy[lane] = mine
	}
	return into
}

func (q *queue) inFlight(lane int, f *footprint) bool {
	for i, b := range q.busy {
		if i != lane && b != nil && b.overlaps(f) {
			return true
		}
	}
	return false
}

// landed says that the lane's group is no longer in flight.
func (q *queue) landed(lane int) {
	if q.busy == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy[lane] = nil
	q.wake.Broadcast()
}
