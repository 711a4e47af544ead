package mvcc

import "time"

// Times of settling.
const (
	// bucketsSettle is how long a change that moves where groups count is left alone before what it has begun is
	// settled: until groups that were evaluated before it have ended. Later ones are evaluated again.
	bucketsSettle = 250 * time.Millisecond
	// bucketsBegin bounds how long new splits are begun before those that have been begun are settled. A fill in no
	// order makes some bucket too large every few milliseconds, and would put off their end for as long as it lasts.
	bucketsBegin = time.Second
	// bucketsCut bounds how long large buckets are cut before that. A fill that is faster than the cuts would put off
	// the end of all splits.
	bucketsCut = 15 * time.Second
)

// settling decides what steps of the buckets may do where groups must see each change that moves where they count. It
// has no clock.
type settling struct {
	moved time.Time // when a step last moved where groups count
	first time.Time // when one did that was the first which nothing had to be left alone for
}

// may says what a step may do that begins now. fresh says that groups may be under way that have not seen the last
// change: the step must not stop them. begins says that it may begin further splits meanwhile.
func (t *settling) may(now time.Time) (fresh, begins bool) {
	since := now.Sub(t.first)
	return now.Sub(t.moved) < bucketsSettle && since < bucketsCut, since < bucketsBegin
}

// move notes that a step which ended now has moved where groups count. fresh is what may has said of it.
func (t *settling) move(now time.Time, fresh bool) {
	if t.moved = now; !fresh {
		t.first = now
	}
}

// left is for how long the last change is to be left alone from now on.
func (t *settling) left(now time.Time) time.Duration { return bucketsSettle - now.Sub(t.moved) }
