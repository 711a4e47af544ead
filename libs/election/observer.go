package election

import "time"

// instant is a moment on a candidate's own monotonic clock, as the time since an origin of its own.
type instant = time.Duration

// observer decides when a challenger may claim: when the row names nobody, or when both rows have stayed the same for
// the holder's time to live. It has no clock.
type observer struct {
	seen   rows
	ballot ballotRow // seen.ballot
	since  instant   // when seen was first seen; meaningless before the first see
	any    bool      // something has been seen
}

// see takes rows that were read. now must have been taken after the read. Errors: ErrCorrupt.
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

// claimable says whether a claim may overwrite the rows that were seen last, if it finds them unchanged. If not, it
// returns how long that takes if nothing happens.
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

// marginDivisor sets the margin: ttl/marginDivisor before a challenger may claim, the leader itself stops relying on
// its term. The margin covers clocks of different rates, and the time between a call of Holds and the action that
// depends on it.
const marginDivisor = 5

// tenure is how long a leader may rely on its term. It has no clock.
type tenure struct {
	ttl   time.Duration
	begun instant // of the last claim or renewal that is known to have been committed
}

// end is the moment from which on the leader must not rely on the term.
func (t tenure) end() instant { return t.begun + t.ttl - t.ttl/marginDivisor }

// extended returns the tenure after a renewal that began at begun and is known at now to have been committed. A tenure
// that has ended by now is not extended: a term that was given up stays so.
func (t tenure) extended(begun, now instant) tenure {
	if now < t.end() && begun > t.begun {
		t.begun = begun
	}
	return t
}
