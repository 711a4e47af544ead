package election

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// campaign observes the rows until they may be claimed and then claims them. It returns when the candidate is elected
// or ctx ends. Errors: those of ctx, and fatal ones.
func (c *Candidate) campaign(ctx context.Context) (*Term, error) {
	failures := 0
	for {
		t, err := c.attempt(ctx)
		switch {
		case ctx.Err() != nil:
			if t != nil {
				c.release(ctx, t)
			}
			return nil, ctx.Err()
		case t != nil:
			return t, nil
		case err == nil:
			failures = 0
			continue
		case fatal(err):
			return nil, err
		}
		if failures == 0 && engine.ClassOf(err) != engine.Conflict {
			c.o.Logger.Warn("the campaign is delayed", "key", c.o.Key, "error", err)
		}
		c.pause(ctx, failures)
		failures++
	}
}

// attempt looks at the rows once. It claims them, or waits until it is time to look again.
func (c *Candidate) attempt(ctx context.Context) (*Term, error) {
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	ok, wait := c.watch.claimable(c.now())
	poll := c.o.TTL / pollDivisor
	switch rest := c.resting - c.now(); {
	case !ok:
	case rest > 0:
		wait = rest
	case c.o.Eligible():
		return c.claim(ctx)
	default:
		wait = poll
	}
	c.await(ctx, min(wait, poll))
	return nil, nil
}

// look shows the observer the newest rows that the group has read, once they are as new as the candidate needs.
func (c *Candidate) look(ctx context.Context) error {
	seen, err := c.group.sight(ctx, c.needs)
	if err != nil {
		return err
	}
	c.looked = seen.seq
	return c.saw(seen.rows[c])
}

// lookAgain makes the group read the rows once more before the candidate looks.
func (c *Candidate) lookAgain() {
	c.needs = c.group.newest()
	c.group.Hurry()
}

// watchBallot makes the group read the rows at once whenever <key>b changes, until ctx ends. So a leader that releases
// the row is replaced without delay. Renewals change only <key>r, and the beats see them soon enough.
func (c *Candidate) watchBallot(ctx context.Context) {
	for seq := uint64(0); ; {
		seen, err := c.group.sight(ctx, seq)
		if err != nil {
			return
		}
		seq = seen.seq
		if c.store.WaitChange(ctx, c.keys.ballot, seen.rows[c].ballot) == nil {
			c.group.Hurry()
		}
	}
}

func (c *Candidate) readBack(ctx context.Context) (rows, error) {
	snap, err := c.store.Snapshot(ctx)
	if err != nil {
		return rows{}, err
	}
	defer snap.Close()
	return c.keys.read(ctx, snap)
}

// saw shows the observer the rows that have just been read.
func (c *Candidate) saw(r rows) error {
	if err := c.watch.see(r, c.now()); err != nil {
		return err
	}
	c.tell(c.watch.ballot.LeaderInfo)
	return nil
}

// await returns when there are new rows to look at, after d, or after a nudge.
func (c *Candidate) await(ctx context.Context, d time.Duration) {
	seen, news, err := c.group.sees(c.looked)
	if seen != nil || err != nil {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-news:
	case <-c.nudge:
	case <-t.C:
	case <-ctx.Done():
	}
}

// claim takes the lead if the rows are still as the observer has seen them. If they are not, it returns nil without an
// error.
func (c *Candidate) claim(ctx context.Context) (*Term, error) {
	begun := c.now()
	next := ballotRow{
		LeaderInfo: LeaderInfo{Holder: c.o.Holder, Value: c.o.Value, Ballot: c.watch.ballot.Ballot + 1},
		ttl:        c.o.TTL,
		token:      newToken(),
	}
	row := next.encode()
	err := c.tryClaim(ctx, next.Ballot, row)
	if class := engine.ClassOf(err); class == engine.UnknownOutcome || class == engine.Ended && ctx.Err() == nil {
		err = c.settle(ctx, row, begun)
	}
	if err != nil {
		c.lookAgain()
		if errors.Is(err, errChanged) {
			return nil, nil
		}
		return nil, err
	}
	t := c.newTerm(next.Ballot, row, begun)
	c.tell(next.LeaderInfo)
	return t, nil
}

// errChanged: the rows have changed since they were looked at or claimed.
var errChanged = errors.New("election: rows have changed")

func (c *Candidate) tryClaim(ctx context.Context, ballot uint64, row []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.TTL)
	defer cancel()
	return c.commit(ctx, func(r rows, txn engine.Txn) error {
		if !r.equal(c.watch.seen) {
			return errChanged // look shows them to the observer
		}
		txn.Set(c.keys.ballot, row)
		txn.Set(c.keys.renewal, renewalRow(ballot, 0))
		return nil
	})
}

// settle finds out whether a claim that began at begun has been committed. It gives up when the claim would be worth
// nothing any more.
func (c *Candidate) settle(ctx context.Context, row []byte, begun instant) error {
	ctx, cancel := context.WithTimeout(ctx, begun+c.o.TTL-c.now())
	defer cancel()
	for failures := 0; ; failures++ {
		r, err := c.readBack(ctx)
		switch {
		case err == nil && bytes.Equal(r.ballot, row):
			return nil
		case err == nil:
			return errChanged
		case fatal(err):
			return err
		case ctx.Err() != nil:
			return engine.ErrUnknownOutcome
		}
		c.pause(ctx, failures)
	}
}

// commit runs f with the rows in a transaction of its own, and waits for the outcome.
func (c *Candidate) commit(ctx context.Context, f func(rows, engine.Txn) error) error {
	txn, err := c.store.Begin(ctx)
	if err != nil {
		return err
	}
	defer txn.Discard()
	r, err := c.keys.read(ctx, txn)
	if err != nil {
		return err
	}
	if err := f(r, txn); err != nil {
		return err
	}
	return commit(ctx, txn)
}

// commit commits a transaction and waits for its outcome.
func commit(ctx context.Context, txn engine.Txn) error {
	// An engine with a disk of its own accepts these few bytes even when the disk is full.
	if v, ok := txn.(engine.Vital); ok {
		v.Vital()
	}
	p, err := txn.Commit(ctx)
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}
