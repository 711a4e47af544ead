package election

import (
	"bytes"
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
)

// serve runs lead for a term, renews the term in that time, and then releases it. It returns lead's error unless lead's
// ctx had ended.
func (c *Candidate) serve(ctx context.Context, t *Term, lead func(context.Context, *Term) error) error {
	log := c.o.Logger.With("key", c.o.Key, "holder", c.o.Holder, "ballot", t.ballot)
	log.Info("elected")
	leading, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	// Renewals go on while lead finishes after the end of ctx.
	c.group.hold(t, lost)
	err := lead(leading, t)
	ended := leading.Err() != nil
	t.finish()
	c.group.drop(t, ErrDeposed)
	c.release(ctx, t)
	c.lookAgain()
	log.Info("term over", "reason", context.Cause(leading), "renewals", t.renewed())
	if ended {
		return nil
	}
	return err
}

// release makes the rows claimable at once if they still belong to the term. It tries until they do not, or until they
// are claimable anyway.
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
			txn.Set(c.keys.renewal, renewalRow(t.ballot, t.tries()+releaseCount))
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

// releaseCount is added to the count of the last renewal. So a release always changes <key>r, whichever attempts to
// renew have been committed, and wakes those who wait for a change.
const releaseCount = 1 << 32
