package mvcc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueBytesMax bounds the bytes of the requests that wait.
	queueBytesMax = 256 << 20
	// sweepEvery and sweepsMax bound how long a write waits for its commit, for clients that set no bound of their own: 7 s (etcd: 5 s
	// and two election timeouts).
	sweepEvery = 250 * time.Millisecond
	sweepsMax  = 28
	// heavySweepsMax is the same for the requests of the heavy lane, which may take long by themselves: a minute.
	heavySweepsMax = 240
)

var errNoAnswer = fmt.Errorf("mvcc: no answer in time: %w", ErrUnavailable)

// request is a mutation on its way through the queue and a group.
type request struct {
	m     mutation
	ctx   context.Context
	bytes int
	foot  footprint // if there are several lanes

	res   Result
	err   error
	ended atomic.Bool
	done  chan struct{} // closed when ended is set: res and err are final, or abandoned says why nobody waits for them

	heavy   bool        // it visits too much for a group with others
	long    atomic.Bool // it has gone to the heavy lane
	told    int         // bytes of results that its Hold has been told of
	refusal error       // why it is to be answered and its group evaluated again without it

	reserved atomic.Int64 // bytes of the quota, given back when the request is over
	space    *atomic.Int64

	abandoned error
	sweeps    int // the sweeper's: how often it has met the request
}

func (r *request) sweepsMax() int {
	if r.long.Load() {
		return heavySweepsMax
	}
	return sweepsMax
}

// finish wakes who waits for the request, unless it has been abandoned.
func (r *request) finish() {
	r.release()
	if r.ended.CompareAndSwap(false, true) {
		r.m = nil // the sweeper's list may hold the request for a while
		close(r.done)
	}
}

// wait returns the outcome. It looks at one channel only: a select with the context and a timer was measured at about 3 µs of CPU
// per write, so the sweeper looks after those who wait too long.
func (r *request) wait() (*Result, error) {
	<-r.done
	if r.abandoned != nil {
		return nil, r.abandoned
	}
	return &r.res, r.err
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
	open   []*request   // those put since the last sweep and those it left waiting
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
	q.open = append(q.open, r)
	q.bytes += r.bytes
	q.wake.Signal()
	return nil
}

// sweep ends the wait of requests whose context has ended, or that have waited for sweepsMax sweeps. A group may have them: their
// outcome stays unknown to their callers. One goroutine at a time may call it.
func (q *queue) sweep() {
	q.mu.Lock()
	open := q.open
	q.open = nil
	q.mu.Unlock()
	kept := open[:0]
	for _, r := range open {
		if r.ended.Load() {
			continue
		}
		err := r.ctx.Err()
		if r.sweeps++; err == nil && r.sweeps > r.sweepsMax() {
			err = errNoAnswer
		}
		if err == nil {
			kept = append(kept, r)
		} else if r.ended.CompareAndSwap(false, true) {
			r.abandoned = err
			close(r.done)
		}
	}
	clear(open[len(kept):])
	q.mu.Lock()
	q.open = append(kept, q.open...)
	q.mu.Unlock()
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
