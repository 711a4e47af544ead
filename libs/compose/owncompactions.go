package compose

import (
	"context"
	"sync"

	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// ownCompactions is the auto compaction of all keyspaces of a standalone server but the first. It knows the heads of
// those that are not open, because nobody else writes them, and opens one only if there is something to compact. The
// zero value is ready. note, found and settled may be called from any goroutine. run is called once.
type ownCompactions struct {
	mu sync.Mutex
	// closed are the keyspaces that had something left to compact when they were closed. For those that are open again
	// it is outdated.
	closed map[uint64]headOf
}

// run compacts until ctx ends, if there is auto compaction.
func (c *ownCompactions) run(ctx context.Context, s *keyspaces) {
	plans, err := newPlans(s)
	if err != nil || plans == nil { // no error: the flags have been checked
		return
	}
	plans.heads = func(ctx context.Context) ([]headOf, error) { return c.heads(ctx, s), nil }
	plans.settled = c.settled
	for ctx.Err() == nil {
		next, _ := plans.look(ctx)
		_ = retry.Sleep(ctx, next)
	}
}

// heads returns the heads of the open keyspaces, and of those closed ones that have something left to compact.
func (c *ownCompactions) heads(ctx context.Context, s *keyspaces) (all []headOf) {
	open := s.serving()
	for id, k := range open {
		if k.Store.Following() {
			continue
		}
		head, err := k.Store.Head(ctx)
		if err != nil { // it was just closed
			delete(open, id)
			continue
		}
		all = append(all, headOf{id, head, k.Store.CompactRevision()})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, h := range c.closed {
		if open[id] == nil {
			all = append(all, h)
		}
	}
	return all
}

// serving returns the open keyspaces of the table.
func (s *keyspaces) serving() map[uint64]*Keyspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make(map[uint64]*Keyspace, len(s.open))
	for id, o := range s.open {
		if o.k != nil {
			open[id] = o.k
		}
	}
	return open
}

// note records what is left to compact in a keyspace that is being closed.
func (c *ownCompactions) note(k *Keyspace) {
	if p, err := k.planner(); err != nil || p == nil || k.Store.Following() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	head, err := k.Store.Head(ctx)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(headOf{k.Place.ID, head, k.Store.CompactRevision()})
}

// found records what the rows of a keyspace say, unless it has been open since the start.
func (c *ownCompactions) found(h headOf) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.closed[h.id]; !known {
		c.set(h)
	}
}

// set records h, if something is left to compact. The caller holds mu.
func (c *ownCompactions) set(h headOf) {
	if h.head <= 1 || h.compacted >= h.head { // revision 1 is the empty keyspace
		delete(c.closed, h.id)
		return
	}
	if c.closed == nil {
		c.closed = make(map[uint64]headOf)
	}
	c.closed[h.id] = h
}

// settled removes a keyspace in which nothing is left to compact, unless it has been written since.
func (c *ownCompactions) settled(id uint64, head int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed[id].head == head {
		delete(c.closed, id)
	}
}
