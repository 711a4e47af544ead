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
	// sweepEvery and sweepsMax bound how long a write waits for its commit if its client has set no bound: 7 s (etcd: 5
	// s and two election timeouts).
	sweepEvery = 250 * time.Millisecond
	sweepsMax  = 28
	// heavySweepsMax is the same bound for requests of the heavy lane, which may take long by themselves: one minute.
	heavySweepsMax = 240
	// outageSweepsMax is the same bound while the engine is known to be out of reach: one second.
	outageSweepsMax = 4
	// outageAfter is how long a group must have failed to reach the engine before that counts as known.
	outageAfter = time.Second
)

var errNoAnswer = fmt.Errorf("mvcc: no answer in time: %w", ErrUnavailable)

// request is a mutation on its way through the queue and a group.
type request struct {
	m      mutation
	ctx    context.Context
	bytes  int
	access *Access
	turn   *turn // with several lanes only

	res   Result
	err   error
	ended atomic.Bool
	done  chan struct{} // closed when ended is set: res and err are final, or abandoned says why nobody waits for them

	heavy   bool        // it visits too many rows for a group with others
	long    atomic.Bool // it has gone to the heavy lane
	told    int         // bytes of results reported to its Hold
	made    bool        // it made a revision in the last attempt
	refusal error       // its answer if its group must be evaluated again without it

	reserved atomic.Int64 // bytes of the quota, returned when the request ends
	space    *atomic.Int64

	abandoned error
	sweeps    int // how many sweeps the request has been through; the sweeper's

	times times // the queue's
	laps  laps  // of the group that has answered it
}

// finish wakes the caller who waits for the request, unless the request has been abandoned.
func (r *request) finish() {
	r.release()
	if r.ended.CompareAndSwap(false, true) {
		r.m = nil // the sweeper's list may keep the request for a while
		close(r.done)
	}
}

// wait returns the outcome. It waits on a single channel: a select with the context and a timer costs about 3 µs of
// CPU per write (measured). The sweeper watches for requests that wait too long.
func (r *request) wait() (*Result, error) {
	<-r.done
	if r.abandoned != nil {
		return nil, r.abandoned
	}
	return &r.res, r.err
}

// queue holds the requests that wait for a group: one list for one lane, a schedule for several lanes.
type queue struct {
	mu      sync.Mutex
	wake    sync.Cond
	reqs    []*request // with one lane
	sched   *schedule  // with several lanes; nil with one
	bytes   int
	max     int
	closed  bool
	serve   func()      // starts the lanes; nil: they run by themselves
	served  bool        // the lanes have been started and not rested since
	retired bool        // the lanes are to end when they find nothing
	turning bool        // a lane waits for a turn
	picked  int         // requests taken since the last call of calm
	open    []*request  // requests put since the last sweep and those still waiting after it, in order of arrival
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

// put adds r to the queue. Errors: ErrTooManyRequests, ErrUnavailable during an outage, ErrClosed.
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

// busy reports whether a caller waits for an answer.
func (q *queue) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.open) > 0 || q.len() > 0
}

// retire makes the lanes end when nothing waits. It does nothing while there is slow work: a lane ends only after its
// heavy lane, and would take nothing until then.
func (q *queue) retire() {
	q.sweeping.Lock()
	defer q.sweeping.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed && q.slow() {
		return
	}
	q.retired = true
	q.wake.Broadcast()
}

// stay takes retire back. The caller has a request that is long from now on.
func (q *queue) stay() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retired = false
}

// slow says whether a request is in the heavy lane, or has had no answer for longer than from one sweep to the next.
// Both mutexes are held.
func (q *queue) slow() bool {
	return slices.ContainsFunc(q.open, func(r *request) bool {
		return !r.ended.Load() && (r.long.Load() || r.sweeps > 1)
	})
}

// rest is called when the lanes have ended. It returns false if they must go on because a request has arrived
// meanwhile.
func (q *queue) rest() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retired = false
	q.served = q.len() > 0
	return !q.served
}

// few takes what waits, for a group that commits with those of other Stores. many: too much does, and nothing is taken.
func (q *queue) few() (reqs []*request, many bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.many() {
		return nil, true
	}
	return q.pick(0, jointRequests, jointBytes, math.MaxInt64), false
}

func (q *queue) many() bool { return len(q.reqs) > jointRequests || q.bytes > jointBytes }

// waits is what waits in a queue.
type waits int

const (
	nothingWaits waits = iota
	fewWait
	manyWait
)

// afterJoint is called when a joint group has ended, with what the Joint does if nothing waits: the queue is not served
// any more then.
func (q *queue) afterJoint(rest func()) waits {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.len() == 0:
		q.served = false
		clear(q.open) // all have been answered
		q.open = q.open[:0]
		rest()
		return nothingWaits
	case q.many():
		return manyWait
	}
	return fewWait
}

// calm reports whether few requests have been taken since the last call, few wait, and none is slow.
func (q *queue) calm() bool {
	q.sweeping.Lock()
	defer q.sweeping.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.picked
	q.picked = 0
	return n <= calmRequests && !q.many() && !q.slow()
}

// over reports whether a lane that finds nothing is to end.
func (q *queue) over() bool { return (q.closed || q.retired) && q.len() == 0 }

// wakeOne wakes a lane if there is a request that it may take. A lane that leaves requests behind wakes the next one.
func (q *queue) wakeOne() {
	if len(q.reqs) > 0 || q.sched != nil && len(q.sched.ready) > 0 {
		q.wake.Signal()
	}
}

// wakeLast wakes all lanes if nothing is left for them, so that they end.
func (q *queue) wakeLast() {
	if q.over() {
		q.wake.Broadcast()
	}
}

// sweep ends the wait of requests whose context has ended or that have been through sweepsMax sweeps, and takes them
// out of the queue. A group may already have taken them: their callers are then not told the outcome.
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

// unreached reports that a group has failed to reach the engine since the given time.
func (q *queue) unreached(since time.Time) {
	if time.Since(since) >= outageAfter {
		q.outage.Store(true)
	}
}

// reached reports that the engine has committed a group.
func (q *queue) reached() {
	if q.outage.Load() {
		q.outage.Store(false)
	}
}

// remove takes requests that have ended out of the queue, unless a lane has taken them.
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

// putBack returns requests of a lane to the front of the queue, because another group must run first. It drops those
// that have ended meanwhile.
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

// close refuses further requests. Those that wait are still served, and the lanes end when none is left.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake.Broadcast()
}

// waiting returns how many requests wait.
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

// take waits for requests and returns those of the next group of a lane. They are at most limit, and have at most bytes
// together unless the first alone is larger. It returns nil when the queue is empty and closed or retired.
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

// pick returns what take would, if there is something. cost bounds the sum of their costs, except that the first
// request is always taken.
func (q *queue) pick(lane, limit, bytes int, cost int64) (into []*request) {
	now := q.now()
	if q.sched != nil {
		q.sched.now = now
		into = q.sched.pick(lane, limit, bytes, cost)
	} else {
		into = q.front(limit, bytes, cost)
	}
	q.picked += len(into)
	for _, r := range into {
		q.bytes -= r.bytes
		if r.times.taken == 0 { // it was not put back before
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

// landed reports that the lane's group is no longer in flight.
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
