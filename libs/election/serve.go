package election

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// serve runs lead for a term, renews the term meanwhile, and releases it. It returns lead's error unless its ctx had ended.
func (c *Candidate) serve(ctx context.Context, t *Term, lead func(context.Context, *Term) error) error {
	log := c.o.Logger.With("key", c.o.Key, "holder", c.o.Holder, "ballot", t.ballot)
	log.Info("elected")
	leading, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	// Renewals go on while lead winds up after the end of ctx.
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var renewals sync.WaitGroup
	renewals.Go(func() { lost(c.keep(renewing, t)) })

	err := lead(leading, t)
	ended := leading.Err() != nil
	t.finish()
	stop()
	renewals.Wait()
	c.release(ctx, t)
	log.Info("term over", "reason", context.Cause(leading), "renewals", t.renewals)
	if ended {
		return nil
	}
	return err
}

// keep renews the term until it is lost or ctx ends, and returns why.
func (c *Candidate) keep(ctx context.Context, t *Term) error {
	failures := 0
	next := c.o.Renew - (c.now() - t.tenure.begun)
	for {
		_ = retry.Sleep(ctx, min(next, t.left()))
		if !t.Holds() {
			return ErrDeposed
		}
		begun := c.now()
		ok, err := c.renew(ctx, t, begun)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case ok:
			failures, next = 0, c.o.Renew-(c.now()-t.tenure.begun)
			continue
		case err == nil, errors.Is(err, ErrDeposed), fatal(err):
			return errors.Join(ErrDeposed, err)
		}
		if failures == 0 {
			c.o.Logger.Warn("renewal is delayed", "key", c.o.Key, "ballot", t.ballot, "error", err)
		}
		c.pause(ctx, failures)
		failures, next = failures+1, 0
	}
}

// renew makes one attempt to renew, begun at begun. ok means that the term goes on; without an error it does not.
func (c *Candidate) renew(ctx context.Context, t *Term, begun instant) (ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.left())
	defer cancel()
	before, tried := t.count, t.tried
	settled := false
	err = c.commit(ctx, func(r rows, txn engine.Txn) error {
		if !bytes.Equal(r.ballot, t.row) {
			return ErrDeposed
		}
		settled = before > 0 && bytes.Equal(r.renewal, renewalRow(t.ballot, before))
		t.count, t.tried = before+1, begun
		txn.Set(c.keys.renewal, renewalRow(t.ballot, t.count))
		return nil
	})
	switch {
	case err == nil:
		t.renewals++
		return t.extend(begun), nil
	case settled && t.extend(tried):
		// The attempt before, whose outcome was unknown, did happen.
		t.renewals++
	}
	return false, err
}

// release makes the rows claimable at once, if they are still the term's. It tries until it is known that they are not, or for the time
// after which they are claimable anyway.
func (c *Candidate) release(ctx context.Context, t *Term) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.o.TTL)
	defer cancel()
	free := ballotRow{LeaderInfo: LeaderInfo{Ballot: t.ballot}, token: newToken()}
	row := free.encode()
	for failures := 0; ctx.Err() == nil; failures++ {
		err := c.commit(ctx, func(r rows, txn engine.Txn) error {
			if !bytes.Equal(r.ballot, t.row) {
				return ErrDeposed
			}
			txn.Set(c.keys.ballot, row)
			txn.Set(c.keys.renewal, renewalRow(t.ballot, t.count+releaseCount))
			return nil
		})
		switch {
		case err == nil:
			c.tell(free.LeaderInfo)
			return
		case errors.Is(err, ErrDeposed), fatal(err):
			return
		}
		c.pause(ctx, failures)
	}
}

// releaseCount is added to the count of the last renewal, so that a release changes <key>r for those who wait for that, whichever
// attempts have happened.
const releaseCount = 1 << 32
