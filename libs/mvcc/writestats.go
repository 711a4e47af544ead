package mvcc

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/histogram"
)

// Retry is the reason why an attempt of a group failed.
type Retry int

// The reasons. Each stands for a class of engine errors, or for one of this package's own.
const (
	RetryConflict    Retry = iota // a row that it had read was written meanwhile
	RetryTooOld                   // it took longer than the engine keeps a state
	RetryOutdated                 // the recent state was outdated, or might have been
	RetryUnavailable              // the engine could not be reached
	RetryNoSpace                  // there was no room for it
	RetryTooLarge                 // it did not fit in a transaction
	RetryDamaged                  // a request found damaged data
	RetryParted                   // a request left the group: too many rows, a refusal, or nobody waits for it
	RetryOther
	Retries // their number
)

var retryNames = [Retries]string{
	"conflict", "too_old", "outdated", "unavailable", "no_space", "too_large", "damaged", "parted", "other",
}

func (r Retry) String() string { return retryNames[r] }

// retryOf returns the reason for an attempt's error. An outdated recent state goes before any other reason.
func retryOf(err error, recent bool) Retry {
	switch {
	case recent:
		return RetryOutdated
	case isParting(err):
		return RetryParted
	case isDamage(err):
		return RetryDamaged
	}
	return retryOfClass[engine.ClassOf(err)]
}

// retryOfClass maps the engine's classes to reasons. All others are RetryOther.
var retryOfClass = [...]Retry{
	engine.Conflict: RetryConflict, engine.TooOld: RetryTooOld, engine.NoSpace: RetryNoSpace,
	engine.TooLarge: RetryTooLarge, engine.Unavailable: RetryUnavailable,

	engine.NoError: RetryOther, engine.Ended: RetryOther, engine.Closed: RetryOther, engine.Damaged: RetryDamaged,
	engine.UnknownOutcome: RetryOther, engine.Other: RetryOther,
}

// Unknown is how a commit ended whose outcome the engine did not know.
type Unknown int

// The ends of commits with unknown outcomes.
const (
	UnknownCommitted  Unknown = iota // it had happened
	UnknownLost                      // it had not happened, and the group was run again
	UnknownUnresolved                // the outcome could not be found out in time
	Unknowns                         // their number
)

var unknownNames = [Unknowns]string{"committed", "lost", "unresolved"}

func (u Unknown) String() string { return unknownNames[u] }

func unknownOf(err error) Unknown {
	switch {
	case err == nil:
		return UnknownCommitted
	case errors.Is(err, errUnresolved):
		return UnknownUnresolved
	}
	return UnknownLost
}

// Writes counts what happens to the writing requests of a Store, for metrics. Counters only grow.
type Writes struct {
	// Wait is how long requests waited until a group took them for the first time, in nanoseconds. Behind is the part
	// of it during which earlier requests for the same keys were before them; only requests that met any are counted.
	Wait, Behind *histogram.Histogram
	// Evaluation is how long groups took to begin, read and evaluate. Commit is the time from the start of their commit
	// until its outcome was known. Both are in nanoseconds, and only for groups that reached their commit.
	Evaluation, Commit *histogram.Histogram
	// Requests and Bytes measure those groups: the number of their requests, and the bytes of these as bounded by
	// Options.GroupBytes.
	Requests, Bytes *histogram.Histogram
	// Retries counts attempts of groups that failed, by reason.
	Retries [Retries]atomic.Int64
	// Unknown counts commits whose outcome the engine did not know, by how they ended.
	Unknown [Unknowns]atomic.Int64
}

// Buckets of histograms.
const (
	latencyFirst, latencyBuckets = int64(50 * time.Microsecond), 18 // to 6.6 s
	requestBuckets               = 10                               // 1 to 512
	bytesFirst, bytesBuckets     = int64(256), 16                   // to 8 MiB
)

func (w *Writes) init() {
	for _, h := range []**histogram.Histogram{&w.Wait, &w.Behind, &w.Evaluation, &w.Commit} {
		*h = histogram.New(histogram.Doubling(latencyFirst, latencyBuckets)...)
	}
	w.Requests = histogram.New(histogram.Doubling(1, requestBuckets)...)
	w.Bytes = histogram.New(histogram.Doubling(bytesFirst, bytesBuckets)...)
}

// taken counts a request that a group has taken for the first time.
func (w *Writes) taken(t *times) {
	w.Wait.Observe(1, t.taken-t.queued)
	if t.ready > t.queued {
		w.Behind.Observe(1, t.ready-t.queued)
	}
}

// sent counts a group whose commit has been started.
func (w *Writes) sent(reqs []*request, l laps) {
	n := 0
	for _, r := range reqs {
		n += r.bytes
	}
	w.Requests.Observe(1, int64(len(reqs)))
	w.Bytes.Observe(1, int64(n))
	w.Evaluation.Observe(1, l.sent-l.begun)
}

// Writes returns the Store's counters of writes.
func (s *Store) Writes() *Writes { return &s.queue.stats }

// WriteQueue is a snapshot of what waits for a group.
type WriteQueue struct {
	Requests int
	Bytes    int
	// BlockedRequests are the requests that wait for earlier requests for the same keys. BlockedKeys are the keys at
	// which they wait; a range counts as the keys in it that other requests name. Both are 0 with one lane.
	BlockedRequests, BlockedKeys int
	// Oldest is the age of the oldest request without an answer, whether it waits or a group has it. 0: there is none.
	Oldest time.Duration
}

// WriteQueue returns what waits now. It may be called from any goroutine. It takes time in proportion to the number of
// requests of a quarter of a second.
func (s *Store) WriteQueue() WriteQueue { return s.queue.state() }

func (q *queue) state() WriteQueue {
	q.sweeping.Lock() // a sweep takes q.open away while it runs
	defer q.sweeping.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	w := WriteQueue{Requests: q.len(), Bytes: q.bytes}
	if q.sched != nil {
		w.BlockedRequests, w.BlockedKeys = q.sched.waiting-len(q.sched.ready), q.sched.blocked
	}
	for _, r := range q.open { // in order of arrival
		if !r.ended.Load() {
			w.Oldest = time.Duration(q.now() - r.times.queued)
			break
		}
	}
	return w
}
