package mvcc

import (
	"time"

	"github.com/headwaterdb/headwater/libs/timing"
)

// times are the points of a request's way to its group, by the queue's clock. They are set under the queue's lock. 0:
// not reached yet.
type times struct {
	queued int64
	ready  int64 // no earlier request for the same keys is left
	taken  int64 // taken by its first group
}

// laps are the points of a group's last attempt, by the same clock. All are 0 if none has been committed.
type laps struct {
	begun int64
	sent  int64 // the commit was started
	known int64 // its outcome was known
	told  int64 // what it wrote was handed on
}

// now is the queue's clock: nanoseconds since the Store was opened, never 0.
func (q *queue) now() int64 { return int64(time.Since(q.opened)) + 1 }

// tell adds the time of a request that has ended to the stages of its context, if there are any.
func (s *Store) tell(r *request) {
	st := timing.From(r.ctx)
	if st == nil {
		return
	}
	now := s.queue.now()
	if r.abandoned != nil { // the queue or a lane may still have it
		s.queue.mu.Lock()
		t := r.times
		s.queue.mu.Unlock()
		t.tell(st, now)
		if t.taken > 0 {
			st.Add(timing.Unanswered, time.Duration(now-t.taken))
		}
		return
	}
	r.times.tell(st, now)
	switch l := r.laps; {
	case l.known > 0:
		st.Add(timing.Retries, time.Duration(l.begun-r.times.taken))
		st.Add(timing.Evaluation, time.Duration(l.sent-l.begun))
		st.Add(timing.Commit, time.Duration(l.known-l.sent))
		st.Add(timing.Publish, time.Duration(l.told-l.known))
		if r.made {
			st.Made(r.res.Rev)
		}
	default:
		st.Add(timing.Retries, time.Duration(now-r.times.taken))
	}
}

// tell adds the way to the group, or the part of it that has been completed.
func (t *times) tell(st *timing.Stages, now int64) {
	ready, taken := t.ready, t.taken
	if ready == 0 {
		ready = now
	}
	if taken == 0 {
		taken = now
	}
	st.Add(timing.BehindKeys, time.Duration(ready-t.queued))
	st.Add(timing.Queue, time.Duration(taken-ready))
}
