package election

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// ErrDeposed says that the term is over: another candidate leads, or may, or the term was released.
var ErrDeposed = errors.New("election: deposed")

// Term is the time for which a candidate leads. Its methods may be called from any goroutine.
type Term struct {
	c      *Candidate
	ballot uint64
	row    []byte // <key>b as this term's claim wrote it

	until atomic.Int64 // instant at which Holds turns false; 0: the term is over

	// Guarded by the group's lock, but for tenure before the group has the term.
	tenure   tenure
	count    uint64  // of the last attempt to renew
	tried    instant // when that attempt began
	renewals int     // that succeeded
}

func (c *Candidate) newTerm(ballot uint64, row []byte, begun instant) *Term {
	t := &Term{c: c, ballot: ballot, row: row, tenure: tenure{ttl: c.o.TTL, begun: begun}}
	t.until.Store(int64(t.tenure.end()))
	return t
}

// Ballot returns the term's number, larger than those of all terms before.
func (t *Term) Ballot() uint64 { return t.ballot }

// Holds reports whether no other candidate can have claimed the lead yet: whether the last successful renewal began
// less than the TTL less a margin ago, on this process's monotonic clock. It is cheap. Once lead has returned it is
// false for ever.
func (t *Term) Holds() bool { return int64(t.c.now()) < t.until.Load() }

// Check makes txn a transaction of this term: it reads the ballot row, so that txn conflicts with a later claim.
// Errors: ErrDeposed, and as engine.Reader.Get. Like all reads it comes before the mutations.
func (t *Term) Check(ctx context.Context, txn engine.Txn) error {
	row, err := txn.Get(ctx, t.c.keys.ballot)
	if err != nil {
		return err
	}
	if !bytes.Equal(row, t.row) {
		return ErrDeposed
	}
	return nil
}

// extend counts a renewal that began at begun and has been committed. It reports whether the term goes on. The group's
// lock is held.
func (t *Term) extend(begun instant) bool {
	now := t.c.now()
	t.tenure = t.tenure.extended(begun, now)
	if now >= t.tenure.end() {
		return false
	}
	// A term that was ended meanwhile stays so.
	for {
		old := t.until.Load()
		if old == 0 {
			return false
		}
		if t.until.CompareAndSwap(old, int64(t.tenure.end())) {
			return true
		}
	}
}

// tries is the number of the last attempt to renew.
func (t *Term) tries() uint64 {
	t.c.group.mu.Lock()
	defer t.c.group.mu.Unlock()
	return t.count
}

// renewed is how many renewals have succeeded.
func (t *Term) renewed() int {
	t.c.group.mu.Lock()
	defer t.c.group.mu.Unlock()
	return t.renewals
}

// finish ends the term for Holds.
func (t *Term) finish() { t.until.Store(0) }

// left is the time until Holds turns false.
func (t *Term) left() time.Duration { return time.Duration(t.until.Load()) - t.c.now() }
