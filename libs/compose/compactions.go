package compose

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/compactor"
	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Times and limits of the compaction of many keyspaces.
const (
	// removalsMax bounds how many keyspaces of a shard have compacted data removed at the same time.
	removalsMax = 16
	// removalTimeout bounds one turn of a keyspace. The removal goes on in its next turn.
	removalTimeout = time.Minute
	// compactionsRetry is the pause after a round in which something has failed.
	compactionsRetry = 5 * time.Second
	// compactionsIdle is the longest time between two rounds. A round begins when something has been compacted.
	compactionsIdle = time.Hour
)

// compactions is a kv pod's share of the compaction of many keyspaces. It does auto compaction: it looks at all heads
// of a shard together, and opens a keyspace when there is something to compact. It removes what compactions, by
// anybody, no longer need. And it sweeps what pods that have died have left behind. It opens no keyspace just to find
// that there is nothing to do.
type compactions struct {
	s *keyspaces
}

// work does this for a shard until ctx ends. It is a shards.Work.
func (c *compactions) work(ctx context.Context, shard int, _ *election.Term) error {
	plans, err := newPlans(c.s)
	if err != nil {
		return err
	}
	d := c.s.joint.d
	var sweep sync.WaitGroup
	defer sweep.Wait()
	sweep.Go(func() { newCommitSweep(c.s, shard).run(ctx) })
	if plans != nil {
		plans.heads = func(ctx context.Context) ([]headOf, error) { return c.heads(ctx, shard) }
	}
	for ctx.Err() == nil {
		bell, err := c.s.bell(ctx, shard)
		if err == nil {
			err = c.remove(ctx, shard)
		}
		next := compactionsIdle
		if plans != nil && err == nil {
			next, err = plans.look(ctx)
		}
		if err != nil {
			if ctx.Err() == nil {
				c.s.d.Log.Warn(
					"the keyspaces of a shard were not all compacted, will be tried again",
					"shard",
					shard,
					"error",
					err,
				)
			}
			_ = retry.Sleep(ctx, compactionsRetry)
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, next)
		err = c.s.d.Engine.WaitChange(waiting, d.Work(shard), bell)
		if err != nil && waiting.Err() == nil {
			_ = retry.Sleep(ctx, compactionsRetry)
		}
		cancel()
	}
	return nil
}

// bell reads the row that changes when something of the shard has been compacted, or leases have come with a copy.
func (s *keyspaces) bell(ctx context.Context, shard int) (row []byte, err error) {
	snap, err := s.d.Engine.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	b, err := snap.Get(ctx, s.joint.d.Work(shard))
	if b == nil {
		return nil, err
	}
	return append([]byte{}, b...), err
}

// heads returns the heads of the keyspaces of a shard.
func (c *compactions) heads(ctx context.Context, shard int) ([]headOf, error) {
	d := c.s.joint.d
	ids, rows, err := d.IDs(ctx, c.s.d.Engine, d.Heads(shard))
	if err != nil {
		return nil, err
	}
	all := make([]headOf, len(ids))
	for i, id := range ids {
		all[i].id = id
		if all[i].head, err = mvcc.ParseBesideHead(rows[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// remove removes what compactions no longer need in the keyspaces of a shard. It returns the last error.
func (c *compactions) remove(ctx context.Context, shard int) (failed error) {
	d := c.s.joint.d
	ids, _, err := d.IDs(ctx, c.s.d.Engine, d.Compacted(shard))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, removalsMax)
	for _, id := range ids {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := c.removeOf(ctx, id); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
			}
		})
	}
	wg.Wait()
	return failed
}

func (c *compactions) removeOf(ctx context.Context, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, removalTimeout)
	defer cancel()
	row := c.s.joint.d.Beside(id).Compacted
	return c.s.inside(ctx, id, func(k *Keyspace) error {
		if err := k.Store.RemoveNow(ctx); err != nil {
			return err
		}
		return keyspace.Forget(ctx, k.d.Engine, row, k.Store.Removed)
	})
}

// inside calls f with a keyspace of the table. It opens the keyspace if necessary, and then closes it soon, unless
// somebody else uses it. It does not call f if the keyspace has been deleted.
func (s *keyspaces) inside(ctx context.Context, id uint64, f func(*Keyspace) error) error {
	info, there := s.table.ByID(id)
	if !there {
		if s.deleted(ctx, id) {
			return nil
		}
		return errNoKeyspace // the copy of the table does not have it yet
	}
	for {
		v, again, err := s.visit(ctx, info, callOwn)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		err = f(v.k)
		busy := v.k.busy()
		v.leave()
		if !busy { // otherwise a review closes it
			s.endBrief(v.o)
		}
		return err
	}
}

// plans decide when the keyspaces of a set are compacted automatically.
type plans struct {
	s     *keyspaces
	make  func() compactor.Planner
	every time.Duration
	last  time.Time // look
	of    map[uint64]*plan

	heads func(context.Context) ([]headOf, error) // returns the heads of the set
	// settled, if set, is called when nothing is left to compact in a keyspace while its head stays the same.
	settled func(id uint64, head int64)
}

// headOf is the head of a keyspace, and the revision at which it has been compacted, as far as that is known.
type headOf struct {
	id              uint64
	head, compacted int64
}

// plan is the plan of one keyspace.
type plan struct {
	compactor.Planner
	begun time.Time
	done  int64 // the last revision that it has been compacted at
	head  int64 // of then
}

// newPlans returns nil if there is no auto compaction. The caller sets heads.
func newPlans(s *keyspaces) (*plans, error) {
	one, err := s.first.planner()
	if err != nil || one == nil {
		return nil, err
	}
	planner := func() compactor.Planner {
		p, _ := s.first.planner() // no error: the same flags as above
		return p
	}
	return &plans{s: s, make: planner, every: one.Interval(), of: make(map[uint64]*plan)}, nil
}

// look compacts what is due, and returns the time until the next look.
func (p *plans) look(ctx context.Context) (time.Duration, error) {
	now := time.Now()
	if wait := p.every - now.Sub(p.last); wait > 0 && !p.last.IsZero() {
		return wait, nil
	}
	p.last = now
	heads, err := p.heads(ctx)
	if err != nil {
		return 0, err
	}
	there := make(map[uint64]*plan, len(heads))
	for _, h := range heads {
		one := p.of[h.id]
		if one == nil {
			one = &plan{Planner: p.make(), begun: now, done: max(h.compacted, 0)}
		}
		there[h.id] = one
		p.compact(ctx, h.id, one, h.head, now)
	}
	p.of = there
	return p.every, nil
}

// compact compacts a keyspace if that is due. The next look tries again what has failed.
func (p *plans) compact(ctx context.Context, id uint64, one *plan, head int64, now time.Time) {
	ask := one.Tick(head, now.Sub(one.begun))
	rev := ask.Rev
	if ask.Keep == 0 && rev <= one.done || ask.Keep > 0 && (head == one.head || head-ask.Keep <= one.done) {
		if ask.Keep > 0 {
			p.settle(id, head)
		}
		return
	}
	err := p.s.inside(ctx, id, func(k *Keyspace) (err error) {
		if ask.Keep > 0 {
			if rev, err = k.Store.Behind(ctx, ask.Keep); err != nil {
				return err
			}
		}
		if rev > one.done {
			_, err = k.Store.Compact(ctx, rev, false)
		}
		return err
	})
	if errors.Is(err, mvcc.ErrFollowing) { // it stays open, and heads reports when it takes compactions
		return
	}
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		p.s.d.Log.Warn("auto compaction failed, will be tried again", "id", id, "revision", rev, "error", err)
		return
	}
	one.done, one.head = max(one.done, rev), head
	one.Done(now.Sub(one.begun))
	if ask.Keep > 0 || one.done >= head {
		p.settle(id, head)
	}
}

func (p *plans) settle(id uint64, head int64) {
	if p.settled != nil {
		p.settled(id, head)
	}
}
