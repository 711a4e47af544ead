//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// removedWithin is how soon after a compaction, when all is well, what it left over is gone.
const removedWithin = time.Minute

// recount counts what there was at a revision of before, if it has not been compacted meanwhile.
func (c *counted) recount(ctx context.Context, r *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	c.mu.Lock()
	if len(c.acked) == 0 {
		c.mu.Unlock()
		return
	}
	rev := c.acked[len(c.acked)-1-r.IntN(min(len(c.acked), burst))].rev
	c.mu.Unlock()
	key, opts := "", everything(clientv3.WithRev(rev))
	if r.IntN(2) == 0 {
		key, opts = countedPrefix, under(clientv3.WithRev(rev))
	}
	if resp, err := c.clis[r.IntN(len(c.clis))].Get(ctx, key, opts...); err == nil {
		c.note(countedRead{"a read of the past", rev, resp.Count})
	}
}

func (c *counted) note(x countedRead) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads = append(c.reads, x)
}

// tell watches at one kv pod, and makes a serializable read there whenever it is told something: such a read may be
// old, but not older than what the pod has told of.
func (c *counted) tell(ctx context.Context, cli *clientv3.Client, pod int) {
	for ctx.Err() == nil {
		once, cancel := context.WithCancel(ctx)
		for resp := range cli.Watch(once, countedPrefix, clientv3.WithPrefix()) {
			if n := len(resp.Events); n > 0 {
				c.afterTold(ctx, cli, pod, resp.Events[n-1].Kv.ModRevision)
			}
		}
		cancel()
		time.Sleep(userPause)
	}
}

func (c *counted) afterTold(ctx context.Context, cli *clientv3.Client, pod int, rev int64) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	resp, err := cli.Get(ctx, countedPrefix, under(clientv3.WithSerializable())...)
	if err != nil {
		return
	}
	if at := resp.Header.Revision; at < rev {
		c.fail(fmt.Errorf("kv-%d shows revision %d to who has been told there of %d", pod, at, rev))
	}
	c.note(countedRead{"a serializable read", resp.Header.Revision, resp.Count})
}

// judgeRemoved waits until what the last compaction left over is gone, so that the rows are judged without it.
func (c *counted) judgeRemoved(ctx context.Context) error {
	if c == nil || c.compact == 0 {
		return nil
	}
	ks, err := keyspace.Lookup(ctx, c.w.db, []byte(engineRoot), c.w.c.counted)
	if err != nil {
		return fmt.Errorf("counts: %w", err)
	}
	store, err := mvcc.Open(ctx, shared{c.w.db}, mvcc.Options{Prefix: ks.Prefix, NoRemoval: true})
	if err != nil {
		return fmt.Errorf("counts: %w", err)
	}
	defer store.Close()
	until := time.Now().Add(removedWithin)
	for {
		_, _, _, err := store.ReadPayloads(ctx, c.compact-1, 1, 1)
		switch {
		case errors.Is(err, mvcc.ErrCompacted):
			c.w.seen.note("counts: what was compacted is gone")
			return nil
		case err != nil:
			return fmt.Errorf("counts: log: %w", err)
		case time.Now().After(until):
			return fmt.Errorf("counts: what was compacted at %d is not removed after %v", c.compact, removedWithin)
		}
		time.Sleep(quietTime)
	}
}
