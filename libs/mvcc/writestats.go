package mvcc

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/histogram"
)

// Retry is why an attempt of a group came to nothing.
type Retry int

// The reasons, each the class of an engine's error or of this package's own.
const (
	RetryConflict    Retry = iota // something it had read was written meanwhile
	RetryTooOld                   // it took longer than the engine keeps a state
	RetryOutdated                 // the recent state was outdated, or might have been
	RetryUnavailable              // the engine could not be reached
	RetryNoSpace                  // there was no room for it
	RetryTooLarge                 // it did not fit a transaction
	RetryDamaged                  // a request met damaged data
	RetryParted                   // a request left it: it visits too much, was refused, or nobody waits for it any more
	RetryOther
	Retries // their number
)

var retryNames = [Retries]string{
	"conflict", "too_old", "outdated", "unavailable", "no_space", "too_large", "damaged", "parted", "other",
}

func (r Retry) String() string { return retryNames[r] }

// retryOf is the reason that an attempt's error gives. A recent state is one of its own, whatever else is the matter.
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

// retryOfClass has the reasons of the engine's classes; of others it is RetryOther.
var retryOfClass = [...]Retry{
	engine.Conflict: RetryConflict, engine.TooOld: RetryTooOld, engine.NoSpace: RetryNoSpace,
	engine.TooLarge: RetryTooLarge, engine.Unavailable: RetryUnavailable,

	engine.NoError: RetryOther, engine.Ended: RetryOther, engine.Closed: RetryOther, engine.Damaged: RetryDamaged,
	engine.UnknownOutcome: RetryOther, engine.Other: RetryOther,
}

// Unknown is what became of a commit whose outcome the engine did not know.
type Unknown int

// The ends of unknown outcomes.
const (
	UnknownCommitted  Unknown = iota // it had happened
	UnknownLost                      // it had not, and the group was run again
	UnknownUnresolved                // that could not be found out in time
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

// Writes counts what becomes of the requests of a Store that write, for metrics. Counters only grow.
type Writes struct {
	// Wait is how long requests waited until a group took them for the first time, in nanoseconds; Behind how much of
	// that others were before them which touch the same keys, only of those that met any.
	Wait, Behind *histogram.Histogram
	// Evaluation is how long groups took to begin, read and evaluate, Commit how long from the start of their commit
	// until its outcome was known, in nanoseconds: of groups that came to their commit.
	Evaluation, Commit *histogram.Histogram
	// Requests and Bytes measure those groups: their requests, and the bytes of these as Options.GroupBytes bounds
	// them.
	Requests, Bytes *histogram.Histogram
	// Retries are attempts of groups that came to nothing.
	Retries [Retries]atomic.Int64
	// Unknown are commits whose outcome the engine did not know.
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

// WriteQueue is what waits for a group at one time.
type WriteQueue struct {
	Requests int
	Bytes    int
	// BlockedRequests are those that others are before which touch the same keys, and BlockedKeys the keys at which
	// they wait; a range counts as the keys in it that others name. Both are 0 where there is one lane.
	BlockedRequests, BlockedKeys int
	// Oldest is the age of the oldest request that has no answer, whether it waits or a group has it; 0: none.
	Oldest time.Duration
}

// WriteQueue returns what waits now. It may be called from any goroutine, and takes time in proportion to the
// requests of a quarter of a second.
func (s *Store) WriteQueue() WriteQueue { return s.queue.state() }

func (q *queue) state() WriteQueue {
	q.sweeping.Lock() // a sweep takes q.open away while it looks at it
	defer q.sweeping.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	w := WriteQueue{Requests: q.len(), Bytes: q.bytes}
	if q.sched != nil {
		w.BlockedRequests, w.BlockedKeys = q.sched.waiting-len(q.sched.ready), q.sched.blocked
	}
	for _, r := range q.open { // in the order in which they came
		if !r.ended.Load() {
			w.Oldest = time.Duration(q.now() - r.times.queued)
			break
		}
	}
	return w
}
