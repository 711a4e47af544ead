//go:build wasip1 || headwater_simulation

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// countedKeyspace is where counted are, if not in the pods' own, countedPrefix begins all their keys.
	countedKeyspace = "counted"
	countedPrefix   = "counted/"
	countedPause    = 250 * time.Millisecond // between two rounds, at most
	// compactEvery is after how many rounds the keyspace is compacted; what that leaves is looked at before the next.
	compactEvery = 8
	// compactedWait is how long the first answer of a watch may take while there are faults.
	compactedWait = time.Second
	// burstEvery is every how many rounds keys are made one by one, burst how many of each client's are under way.
	burstEvery = 3
	burst      = 5
	// settlePause is between two reads that find the same when the keyspace is at rest. Commits are not late any more
	// when all faults are over, so this is longer than what a write whose client has gone may still need: a pod waits
	// for at most 0.7 s between two attempts.
	settlePause = quietTime
)

// counted are clients that make two keys each in one transaction, all at once, and count what there is in the same
// transaction: none is deleted, so the count tells which have come before. In some rounds they make many keys at
// once instead, each by itself. All is read again, at once and at old revisions (recount, tell). One watch sees them
// all, and others begin where the keyspace has been compacted.
type counted struct {
	w       *world
	clis    []*clientv3.Client
	tellers []*clientv3.Client // one at each kv pod
	watcher *clientv3.Client
	cancel  context.CancelFunc
	writes  sync.WaitGroup
	watch   sync.WaitGroup
	unwatch context.CancelFunc
	compact int64 // the last revision at which it was compacted

	mu     sync.Mutex
	acked  []countedTxn
	reads  []countedRead
	events []countedEvent
	failed []error
}

// countedTxn is an acknowledged write; it counted, if it is one that does (uncounted), what there is after it.
type countedTxn struct {
	key        string // of the first that it made
	rev, count int64
}

const uncounted = -1

// countedRead is what a read counted at a revision.
type countedRead struct {
	what       string
	rev, count int64
}

type countedEvent struct {
	key string
	rev int64
}

func (w *world) startCounted(ctx context.Context) (*counted, error) {
	if w.plan.counts == 0 {
		return nil, nil
	}
	if w.c.counted == countedKeyspace {
		if err := w.createKeyspace(ctx, countedKeyspace, nil); err != nil {
			return nil, err
		}
	}
	c := &counted{w: w}
	addrs := w.addrs(outside, w.of(config.KV)[:w.c.per])
	for i := range w.plan.counts {
		cli, err := w.client(addrs[i%len(addrs)])
		if err != nil {
			return nil, err
		}
		c.clis = append(c.clis, cli)
	}
	for _, addr := range addrs {
		cli, err := w.client(addr)
		if err != nil {
			return nil, err
		}
		c.tellers = append(c.tellers, cli)
	}
	var err error
	if c.watcher, err = w.client(w.addrs(outside, w.first())...); err != nil {
		return nil, err
	}
	ctx = in(ctx, w.c.counted)
	watching, unwatch := context.WithCancel(ctx)
	c.unwatch = unwatch
	c.watch.Go(func() { c.see(watching) })
	for i, cli := range c.tellers {
		c.watch.Go(func() { c.tell(watching, cli, i) })
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.writes.Go(func() { c.rounds(ctx) })
	return c, nil
}

// rounds makes keys until ctx ends.
func (c *counted) rounds(ctx context.Context) {
	r := c.w.rand("counted")
	for n := 0; ctx.Err() == nil; n++ {
		time.Sleep(between(r, 10*time.Millisecond, countedPause))
		var wg sync.WaitGroup
		for i, cli := range c.clis {
			key := fmt.Sprintf("%s%d/%d", countedPrefix, i, n)
			if n%burstEvery == burstEvery-1 {
				for j := range burst {
					wg.Go(func() { c.makeOne(ctx, cli, fmt.Sprintf("%s/%d", key, j)) })
				}
				continue
			}
			whole := r.IntN(2) == 0
			wg.Go(func() { c.make(ctx, cli, key, whole) })
		}
		wg.Wait()
		c.recount(ctx, r)
		if n%compactEvery == compactEvery-1 {
			c.compaction(ctx)
		}
	}
}

// everything are the options of a read of all keys: only there is the count known without a look at each of them.
func everything(more ...clientv3.OpOption) []clientv3.OpOption {
	return append(more, clientv3.WithFromKey(), clientv3.WithCountOnly())
}

// under are the options of a read of the prefix.
func under(more ...clientv3.OpOption) []clientv3.OpOption {
	return append(more, clientv3.WithPrefix(), clientv3.WithCountOnly())
}

// make is one transaction. What becomes of one that is not answered the last read tells.
func (c *counted) make(ctx context.Context, cli *clientv3.Client, key string, whole bool) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	count := clientv3.OpGet(countedPrefix, under()...)
	if whole {
		count = clientv3.OpGet("", everything()...)
	}
	resp, err := cli.Txn(ctx).Then(
		clientv3.OpPut(key+"/a", key), clientv3.OpPut(key+"/b", key), count,
	).Commit()
	if err == nil {
		c.ack(countedTxn{key + "/a", resp.Header.Revision, resp.Responses[2].GetResponseRange().Count})
	}
}

// makeOne makes one key.
func (c *counted) makeOne(ctx context.Context, cli *clientv3.Client, key string) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	if resp, err := cli.Put(ctx, key, key); err == nil {
		c.ack(countedTxn{key, resp.Header.Revision, uncounted})
	}
}

func (c *counted) ack(t countedTxn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = append(c.acked, t)
}

// see collects all events, over all that happens to the watch.
func (c *counted) see(ctx context.Context) {
	next := int64(1)
	for ctx.Err() == nil {
		once, cancel := context.WithCancel(ctx)
		for resp := range c.watcher.Watch(once, countedPrefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
			if resp.CompactRevision != 0 {
				c.fail(fmt.Errorf("a watch from revision %d, all before which it has seen, is told of a "+
					"compaction at %d", next, resp.CompactRevision))
			}
			c.mu.Lock()
			for _, e := range resp.Events {
				c.events = append(c.events, countedEvent{string(e.Kv.Key), e.Kv.ModRevision})
				next = e.Kv.ModRevision + 1
			}
			c.mu.Unlock()
		}
		cancel()
		time.Sleep(userPause)
	}
}

// compaction looks at what the last compaction has left, and compacts at a later revision, which the watch has seen.
func (c *counted) compaction(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, compactedWait)
	defer cancel()
	c.atCompacted(ctx)
	c.mu.Lock()
	to := int64(0)
	if n := len(c.events); n > 0 {
		to = c.events[n-1].rev
	}
	c.mu.Unlock()
	if to == 0 || to == c.compact {
		return
	}
	// An attempt without an answer may be done later, so that nothing can be told of the one before it any more.
	c.compact = 0
	if _, err := c.clis[0].Compact(ctx, to); err == nil || errors.Is(err, rpctypes.ErrCompacted) {
		c.compact = to
	}
}

// firstOf returns what a watch from a revision is told first.
func (c *counted) firstOf(ctx context.Context, rev int64) (resp clientv3.WatchResponse, ok bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range c.watcher.Watch(ctx, countedPrefix, clientv3.WithPrefix(), clientv3.WithRev(rev)) {
		if len(resp.Events) > 0 || resp.CompactRevision != 0 {
			return resp, true
		}
	}
	return resp, false
}

// atCompacted watches from the compact revision: what was written then is still there. It says whether the watch has
// been told anything before ctx ended.
func (c *counted) atCompacted(ctx context.Context) bool {
	if c.compact == 0 {
		return false
	}
	resp, ok := c.firstOf(ctx, c.compact)
	if !ok {
		return false
	}
	c.w.seen.note("watch: from the compact revision")
	if resp.CompactRevision != 0 || len(resp.Events) == 0 || resp.Events[0].Kv.ModRevision != c.compact {
		c.fail(fmt.Errorf("a watch from %d, the compact revision, does not begin with what was written then: %+v",
			c.compact, resp))
	}
	return true
}

// judgeCompacted compacts at the last revision. What was written then stays, and now that no hub is behind, a watch
// from before it is refused.
func (c *counted) judgeCompacted(ctx context.Context, last int64) error {
	err := leases.Retry(ctx, func(ctx context.Context) error {
		_, err := c.clis[0].Compact(ctx, last)
		return but(err, rpctypes.ErrCompacted)
	})
	if err != nil {
		return fmt.Errorf("counts: compaction: %w", err)
	}
	c.compact = last
	time.Sleep(quietTime)
	ctx, cancel := context.WithTimeout(ctx, liveWithin)
	defer cancel()
	if !c.atCompacted(ctx) {
		return fmt.Errorf("counts: a watch from %d, the compact revision, gets nothing within %v", last, liveWithin)
	}
	resp, ok := c.firstOf(ctx, last-1)
	c.w.seen.note("watch: from before the compact revision")
	if !ok || resp.CompactRevision != last {
		return fmt.Errorf("counts: a watch from before %d, the compact revision, is not told so, but %+v", last, resp)
	}
	return nil
}

func (c *counted) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, err)
}

// settled reads all keys until two reads in a row find as many, as none is deleted: writes that nobody waits for any
// more, as those of a pod that was paused, come after the last one that was answered.
func (c *counted) settled(ctx context.Context) (all *clientv3.GetResponse, err error) {
	until := time.Now().Add(liveWithin)
	for keys := -1; ; keys = len(all.Kvs) {
		err := leases.Retry(ctx, func(ctx context.Context) (err error) {
			all, err = c.clis[0].Get(ctx, countedPrefix, clientv3.WithPrefix())
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case len(all.Kvs) == keys:
			return all, nil
		case time.Now().After(until):
			return nil, fmt.Errorf("keys are made %v after the last client has gone", liveWithin)
		}
		time.Sleep(settlePause)
	}
}

// judge reads all keys, when there are no more: each count has to be of those that were made up to its revision, and
// the watch has to see each once, in order.
func (c *counted) judge(ctx context.Context) error {
	if c == nil {
		return nil
	}
	c.cancel()
	c.writes.Wait()
	ctx = in(ctx, c.w.c.counted)
	all, err := c.settled(ctx)
	if err != nil {
		return fmt.Errorf("counts: %w", err)
	}
	var there []countedEvent
	for _, kv := range all.Kvs {
		there = append(there, countedEvent{string(kv.Key), kv.CreateRevision})
	}
	slices.SortStableFunc(there, func(a, b countedEvent) int { return int(a.rev - b.rev) })
	errs := []error{c.judgeCounts(there), c.judgeEvents(there)}
	if n := len(there); n > 0 {
		errs = append(errs, c.judgeCompacted(ctx, there[n-1].rev))
	}
	c.unwatch()
	c.watch.Wait()
	for _, cli := range append(append(c.clis, c.tellers...), c.watcher) {
		errs = append(errs, cli.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, err := range c.failed {
		errs = append(errs, fmt.Errorf("counts: %w", err))
	}
	c.w.seen.add("counts: transactions", len(c.acked))
	c.w.seen.add("counts: reads", len(c.reads))
	return errors.Join(errs...)
}

// judgeCounts holds the counts against the keys that there are, in the order of their revisions.
func (c *counted) judgeCounts(there []countedEvent) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	made := make(map[string]int64)
	for _, k := range there {
		made[k.key] = k.rev
	}
	reads := slices.Clone(c.reads)
	for _, t := range c.acked {
		if made[t.key] != t.rev {
			err = errors.Join(err, fmt.Errorf("counts: %s was made at %d, and is not there", t.key, t.rev))
		}
		if t.count != uncounted {
			reads = append(reads, countedRead{"a transaction", t.rev, t.count})
		}
	}
	for _, x := range reads {
		n, _ := slices.BinarySearchFunc(there, x.rev+1, func(k countedEvent, rev int64) int {
			return cmp.Compare(k.rev, rev)
		})
		if int64(n) != x.count {
			err = errors.Join(err, fmt.Errorf("counts: %s at revision %d counts %d, where there were %d",
				x.what, x.rev, x.count, n))
		}
	}
	return err
}

// judgeEvents waits until the watch has seen the last key, and compares.
func (c *counted) judgeEvents(there []countedEvent) error {
	until := time.Now().Add(liveWithin)
	for {
		c.mu.Lock()
		events := slices.Clone(c.events)
		c.mu.Unlock()
		if len(there) == 0 || len(events) > 0 && events[len(events)-1].rev >= there[len(there)-1].rev {
			for i := range max(len(there), len(events)) {
				if i >= len(there) || i >= len(events) || there[i] != events[i] {
					return fmt.Errorf("counts: a watch has seen %d events of %d, and the %dth is not the %dth key "+
						"that was made", len(events), len(there), i+1, i+1)
				}
			}
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("counts: %v after the last fault a watch has seen %d events of %d", liveWithin,
				len(events), len(there))
		}
		time.Sleep(userPause)
	}
}
