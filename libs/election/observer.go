package election

import "time"

// instant is a moment on a candidate's own monotonic clock: the time since an origin of its own.
type instant = time.Duration

// observer decides when a challenger may claim: when the row names nobody, or when both rows have not changed for the
// holder's time to live since they were first seen as they are. It has no clock.
type observer struct {
	seen   rows
	ballot ballotRow // seen.ballot
	since  instant   // when seen was first seen; meaningless before the first see
	any    bool      // something has been seen
}

// see takes what was read. now must have been taken after the read. Errors: ErrCorrupt.
func (o *observer) see(r rows, now instant) error {
	if o.any && o.seen.equal(r) {
		return nil
	}
	b, err := parseBallot(r.ballot)
	if err != nil {
		return err
	}
	*o = observer{seen: r, ballot: b, since: now, any: true}
	return nil
}

// claimable reports whether the rows as they were seen last may be overwritten by a claim that finds them unchanged,
// and if not, how long that takes if nothing happens.
func (o *observer) claimable(now instant) (ok bool, wait time.Duration) {
	if !o.any {
		return false, 0
	}
	if o.ballot.Holder == "" {
		return true, 0
	}
	wait = o.since + o.ballot.ttl - now
	return wait <= 0, max(wait, 0)
}

// marginDivisor sets the margin, ttl/marginDivisor: for how long before the end that a challenger waits for a leader
// no longer counts on its term. It covers clocks of different rates, and the way from a look at Holds to what is done
// about it.
const marginDivisor = 5

// tenure is how long a term may be counted on. It has no clock.
type tenure struct {
	ttl   time.Duration
	begun instant // of the last claim or renewal that is known to have been committed
}

// end is the moment from which the term is not counted on.
func (t tenure) end() instant { return t.begun + t.ttl - t.ttl/marginDivisor }

// extended is the tenure after a renewal that began at begun and is known, at now, to have been committed. A tenure
// that has ended by then is not extended: what was let go is not picked up again.
func (t tenure) extended(begun, now instant) tenure {
	if now < t.end() && begun > t.begun {
		t.begun = begun
	}
	return t
}
