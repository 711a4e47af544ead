package mvcc

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueBytesMax bounds the bytes of the requests that wait.
	queueBytesMax = 256 << 20
	// sweepEvery and sweepsMax bound how long a write waits for its commit, for clients that set no bound of their
	// own: 7 s (etcd: 5 s and two election timeouts).
	sweepEvery = 250 * time.Millisecond
	sweepsMax  = 28
	// heavySweepsMax is the same for the requests of the heavy lane, which may take long by themselves: a minute.
	heavySweepsMax = 240
	// outageSweepsMax is the same while the engine is known to be out of reach: a second.
	outageSweepsMax = 4
	// outageAfter is how long a group must have tried in vain to reach the engine until that is known.
	outageAfter = time.Second
)

var errNoAnswer = fmt.Errorf("mvcc: no answer in time: %w", ErrUnavailable)

// request is a mutation on its way through the queue and a group.
type request struct {
	m      mutation
	ctx    context.Context
	bytes  int
	access *Access
	turn   *turn // if there are several lanes

	res   Result
	err   error
	ended atomic.Bool
	done  chan struct{} // closed when ended is set: res and err are final, or abandoned says why nobody waits for them

	heavy   bool        // it visits too much for a group with others
	long    atomic.Bool // it has gone to the heavy lane
	told    int         // bytes of results that its Hold has been told of
	made    bool        // it has made a revision, in the last attempt
	refusal error       // why it is to be answered and its group evaluated again without it

	reserved atomic.Int64 // bytes of the quota, given back when the request is over
	space    *atomic.Int64

	abandoned error
	sweeps    int // the sweeper's: how often it has met the request

	times times // the queue's
	laps  laps  // of the group that has answered it
}

// finish wakes who waits for the request, unless it has been abandoned.
func (r *request) finish() {
	r.release()
	if r.ended.CompareAndSwap(false, true) {
		r.m = nil // the sweeper's list may hold the request for a while
		close(r.done)
	}
}

// wait returns the outcome. It looks at one channel only: a select with the context and a timer was measured at about
// 3 µs of CPU per write, so the sweeper looks after those who wait too long.
func (r *request) wait() (*Result, error) {
	<-r.done
	if r.abandoned != nil {
		return nil, r.abandoned
	}
	return &r.res, r.err
}

// queue holds the requests that wait for a group: of one lane in their order, of several in a schedule.
type queue struct {
	mu      sync.Mutex
	wake    sync.Cond
	reqs    []*request // of one lane
	sched   *schedule  // of several; nil with one
	bytes   int
	max     int
	closed  bool
	serve   func()      // starts those who take from the queue; nil: they do it by themselves
	served  bool        // they have been started, and have not rested since
	retired bool        // they are to end when they find nothing
	turning bool        // a lane waits for a turn
	open    []*request  // those put since the last sweep and those it left waiting, in the order in which they came
	outage  atomic.Bool // the engine is known to be out of reach

	sweeping sync.Mutex // a sweep is under way; taken before mu
	opened   time.Time
	stats    Writes
}

func (q *queue) init(limit, lanes int) {
	q.wake.L = &q.mu
	q.max, q.opened = limit, time.Now()
	q.stats.init()
	if lanes > 1 {
		q.sched = newSchedule(lanes, spansMax)
	}
}

// put queues r. Errors: ErrTooManyRequests or, in an outage, ErrUnavailable; ErrClosed.
func (q *queue) put(r *request) error {
	var foot conflictSet
	if q.sched != nil {
		foot = conflictSetOf(r.m)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.len() >= q.max, q.bytes+r.bytes > queueBytesMax:
		if q.outage.Load() {
			return ErrUnavailable
		}
		return ErrTooManyRequests
	}
	r.times.queued = q.now()
	if q.sched != nil {
		q.sched.now = r.times.queued
		r.turn = q.sched.put(r, foot)
	} else {
		r.times.ready = r.times.queued
		q.reqs = append(q.reqs, r)
	}
	q.open = append(q.open, r)
	q.bytes += r.bytes
	if !q.served && q.serve != nil {
		q.served = true
		q.serve()
	}
	q.wakeOne()
	return nil
}

// busy says that somebody waits for an answer.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.open) > 0 || q.len() > 0
}

// retire has the lanes end when nothing waits.
func (q *queue) retire() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retired = true
	q.wake.Broadcast()
}

// rest is called when the lanes have ended. It returns false if they are to go on: something has come meanwhile.
func (q *queue) rest() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retired = false
	q.served = q.len() > 0
	return !q.served
}

// over says that a lane which finds nothing is to end.
func (q *queue) over() bool { return (q.closed || q.retired) && q.len() == 0 }

// wakeOne wakes a lane if there is something that it may take. Whoever leaves something behind wakes the next.
func (q *queue) wakeOne() {
	if len(q.reqs) > 0 || q.sched != nil && len(q.sched.ready) > 0 {
		q.wake.Signal()
	}
}

// wakeLast wakes all lanes if nothing is left for them: they are to end.
func (q *queue) wakeLast() {
	if q.over() {
		q.wake.Broadcast()
	}
}

// sweep ends the wait of requests whose context has ended, or that have waited for sweepsMax sweeps, and takes them
// out of the queue. A group may have them: their outcome stays unknown to their callers.
func (q *queue) sweep() {
	q.sweeping.Lock()
	defer q.sweeping.Unlock()
	q.mu.Lock()
	open := q.open
	q.open = nil
	q.mu.Unlock()
	kept := open[:0]
	var dead []*request
	for _, r := range open {
		if r.ended.Load() {
			continue
		}
		err := r.ctx.Err()
		if r.sweeps++; err == nil && r.sweeps > q.sweepsMax(r) {
			err = errNoAnswer
		}
		if err == nil {
			kept = append(kept, r)
		} else if r.ended.CompareAndSwap(false, true) {
			r.abandoned = err
			close(r.done)
			dead = append(dead, r)
		}
	}
	clear(open[len(kept):])
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = append(kept, q.open...)
	if len(dead) > 0 {
		q.remove(dead)
	}
}

func (q *queue) sweepsMax(r *request) int {
	switch {
	case q.outage.Load():
		return outageSweepsMax
	case r.long.Load():
		return heavySweepsMax
	}
	return sweepsMax
}

// unreached says that a group has tried in vain to reach the engine since some time.
func (q *queue) unreached(since time.Time) {
	if time.Since(since) >= outageAfter {
		q.outage.Store(true)
	}
}

// reached says that the engine has committed a group.
func (q *queue) reached() {
	if q.outage.Load() {
		q.outage.Store(false)
	}
}

// remove takes requests that have ended out of the queue: those among them that no lane has.
func (q *queue) remove(dead []*request) {
	if q.sched != nil {
		q.sched.now = q.now()
		for _, r := range dead {
			if q.sched.remove(r.turn) {
				q.bytes -= r.bytes
				r.release()
			}
		}
	} else {
		q.reqs = slices.DeleteFunc(q.reqs, func(r *request) bool {
			if !r.ended.Load() {
				return false
			}
			q.bytes -= r.bytes
			r.release()
			return true
		})
	}
	q.wakeOne()
	q.wakeLast()
}

// putBack returns requests of a lane to the front: they have been taken, but another group must run first. Those that
// have ended meanwhile are dropped.
func (q *queue) putBack(reqs []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	reqs = slices.DeleteFunc(slices.Clone(reqs), func(r *request) bool {
		if !r.ended.Load() {
			return false
		}
		r.release()
		return true
	})
	for _, r := range reqs {
		q.bytes += r.bytes
	}
	if q.sched != nil {
		q.sched.now = q.now()
		q.sched.putBack(reqs)
	} else {
		q.reqs = append(reqs, q.reqs...)
	}
	q.wakeOne()
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
	return q.len()
}

func (q *queue) len() int {
	if q.sched != nil {
		return q.sched.waiting
	}
	return len(q.reqs)
}

// take waits for requests and returns those of the next group of a lane: at most limit, and bytes unless a single one
// is larger. It returns nil when the queue is closed or retired, and empty.
func (q *queue) take(lane, limit, bytes int) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if reqs := q.pick(lane, limit, bytes, math.MaxInt64); len(reqs) > 0 {
			if q.sched != nil {
				q.wakeOne()
				q.wakeLast()
			}
			return reqs
		}
		if q.over() {
			return nil
		}
		q.wake.Wait()
	}
}

// pick takes what take returns, if there is something, and no more than costs so much unless the first does.
func (q *queue) pick(lane, limit, bytes int, cost int64) (into []*request) {
	now := q.now()
	if q.sched != nil {
		q.sched.now = now
		into = q.sched.pick(lane, limit, bytes, cost)
	} else {
		into = q.front(limit, bytes, cost)
	}
	for _, r := range into {
		q.bytes -= r.bytes
		if r.times.taken == 0 { // it has not been put back
			r.times.taken = now
			q.stats.taken(&r.times)
		}
	}
	return into
}

// front takes the first requests of one lane.
func (q *queue) front(limit, bytes int, cost int64) (into []*request) {
	n, sum := 0, 0
	for n < min(limit, len(q.reqs)) {
		r := q.reqs[n]
		sum, cost = sum+r.bytes, cost-r.cost()
		if n > 0 && (sum > bytes || cost < 0) {
			break
		}
		n++
	}
	into = slices.Clone(q.reqs[:n])
	kept := copy(q.reqs, q.reqs[n:])
	clear(q.reqs[kept:])
	q.reqs = q.reqs[:kept]
	return into
}

// landed says that the lane's group is no longer in flight.
func (q *queue) landed(lane int) {
	if q.sched == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sched.now = q.now()
	q.sched.landed(lane)
	q.wakeOne()
}
