package election

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// ErrDeposed: the term is over. Another candidate leads, or may lead, or the term was released.
var ErrDeposed = errors.New("election: deposed")

// Term is the time in which a candidate leads. Its methods may be called from any goroutine.
type Term struct {
	c      *Candidate
	ballot uint64
	row    []byte // <key>b as this term's claim wrote it

	until atomic.Int64 // instant at which Holds turns false; 0: the term is over

	// Guarded by the group's lock. tenure is not, before the group has the term.
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

// Ballot returns the number of the term. It is larger than that of every earlier term.
func (t *Term) Ballot() uint64 { return t.ballot }

// Holds says whether no other candidate can have claimed the lead yet: the last successful renewal began less than TTL
// minus a margin ago, on this process's monotonic clock. It is cheap. Once lead has returned it is false for ever.
func (t *Term) Holds() bool { return int64(t.c.now()) < t.until.Load() }

// Check makes txn a transaction of this term. It reads the ballot row, so that txn conflicts with a later claim. Like
// all reads it must come before the mutations. Errors: ErrDeposed, and as engine.Reader.Get.
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

// extend accounts for a renewal that began at begun and has been committed. It says whether the term goes on. The
// group's lock is held.
func (t *Term) extend(begun instant) bool {
	now := t.c.now()
	t.tenure = t.tenure.extended(begun, now)
	if now >= t.tenure.end() {
		return false
	}
	// A term that has ended in the meantime stays ended.
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

// tries returns the number of the last attempt to renew.
func (t *Term) tries() uint64 {
	t.c.group.mu.Lock()
	defer t.c.group.mu.Unlock()
	return t.count
}

// renewed returns how many renewals have succeeded.
func (t *Term) renewed() int {
	t.c.group.mu.Lock()
	defer t.c.group.mu.Unlock()
	return t.renewals
}

// finish makes Holds false for ever.
func (t *Term) finish() { t.until.Store(0) }

// left is the time until Holds turns false.
func (t *Term) left() time.Duration { return time.Duration(t.until.Load()) - t.c.now() }
