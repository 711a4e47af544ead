package pebble

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"

	"github.com/headwaterdb/headwater/libs/engine"
)

// commit is an applied batch on its way to the disk.
type commit struct {
	s     *Store
	seq   uint64 // 1 for the first commit since the store was opened; 0 is the state it was opened with
	last  uint64 // the last version given out when it was applied, in the domain of the empty prefix
	batch *shared
	repr  []byte // the batch's bytes
	view  *view  // the state after the commit; the commit holds a reference until it is published

	sync    sync.Once
	syncErr error
	durable atomic.Bool // published
}

// commit validates t against the commits since its read version, and applies its batch. If it returns an error of the
// context, nothing has been applied.
func (s *Store) commit(ctx context.Context, t *txn) (*commit, error) {
	if err := s.lockWriter(ctx); err != nil {
		return nil, err
	}
	defer s.wmu.Unlock()
	if err := s.err(); err != nil {
		return nil, err
	}
	if err := s.validate(t); err != nil {
		return nil, err
	}
	batch := t.writable()
	if err := s.addUp(batch, t.adds); err != nil {
		return nil, err
	}
	if err := s.stampBatch(t, batch); err != nil {
		return nil, err
	}
	s.sign(batch, s.seq+1)
	c := &commit{s: s, seq: s.seq + 1, batch: t.batch, repr: batch.Repr()}
	snap, err := s.apply(batch)
	if err != nil {
		t.batch.refs.Add(1) // Pebble may still hold it: it must not go back to the pool
		return nil, s.fail(fmt.Errorf("apply: %w", err))
	}
	s.keepVersions(t)
	s.seq, c.last = c.seq, s.version
	c.batch.refs.Add(1) // for publish
	c.view = newView(s, snap, c)
	s.admitCommit(t, c)
	return c, nil
}

// lockWriter takes the writer lock when a commit may be applied. The lock is not held while compactions are waited for.
func (s *Store) lockWriter(ctx context.Context) error {
	for {
		if err := s.awaitCompactions(ctx); err != nil {
			return err
		}
		s.wmu.Lock()
		if !s.stall.on.Load() {
			return nil
		}
		s.wmu.Unlock()
	}
}

// addUp writes the new values of the counters that a transaction adds to. The writer lock is held, so the newest state
// is the one before this commit.
func (s *Store) addUp(batch *pdb.Batch, adds []addition) error {
	for _, a := range adds {
		value, err := s.meta(a.row)
		if err != nil {
			return s.readError(err)
		}
		sum, ok := engine.ParseCounter(value)
		if !ok {
			return fmt.Errorf("pebble: Add to a row of %d bytes, which is no counter", len(value))
		}
		if err := batch.Set(a.row, engine.AppendCounter(nil, sum+a.delta), nil); err != nil {
			return err
		}
	}
	return nil
}

// validate checks t's reads. The writer lock is held.
func (s *Store) validate(t *txn) error {
	since := t.v.commit.seq
	if since == s.seq || t.reads.empty() {
		return nil
	}
	s.mu.Lock()
	sets, ok := s.window.since(since)
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("pebble: %d commits since the transaction began: %w", s.seq-since, engine.ErrTooOld)
	}
	for _, w := range sets {
		if w.hits(&t.reads) {
			return engine.ErrConflict
		}
	}
	return nil
}

// admitCommit makes c the newest state. The writer lock is held.
func (s *Store) admitCommit(t *txn, c *commit) {
	c.view.refs.Add(1) // for s.applied
	s.mu.Lock()
	old := s.applied
	s.applied = c.view
	s.queue = append(s.queue, c)
	s.remove(t)
	if s.open.first != nil || !s.limits.Pipelined {
		c.batch.refs.Add(1)
		s.window.add(&writeSet{seq: c.seq, repr: c.repr, spans: t.touches, free: c.batch.release})
	} else {
		s.window.skip(c.seq)
	}
	s.mu.Unlock()
	old.unref()
}

// wait returns when c is durable.
func (c *commit) wait(ctx context.Context) error {
	if c.durable.Load() {
		return nil
	}
	if ctx.Done() == nil {
		return c.finish()
	}
	done := make(chan error, 1)
	c.s.goOn(func() { done <- c.finish() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// goOn runs f in a goroutine that Close waits for. It does nothing if Close has begun to wait.
func (s *Store) goOn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		go f()
		return
	}
	s.background.Go(f)
}

// finish waits for the sync that covers c and publishes c and all before it. Any number of goroutines may call it.
func (c *commit) finish() error {
	c.awaitSync()
	if c.syncErr != nil {
		return c.s.fail(fmt.Errorf("write-ahead log: %w", c.syncErr))
	}
	c.s.publish(c)
	return nil
}

// awaitSync waits for the sync of the batch. Pebble allows only one call.
func (c *commit) awaitSync() {
	c.sync.Do(func() { c.syncErr = c.batch.batch.SyncWait() })
}

// publish makes the state after c the durable view, unless a later state is. Pebble syncs in the order of commits, so
// all commits before c are durable too.
func (s *Store) publish(c *commit) {
	if c.durable.Load() {
		return
	}
	s.mu.Lock()
	n := 0
	for n < len(s.queue) && s.queue[n].seq <= c.seq {
		n++
	}
	if n == 0 {
		s.mu.Unlock()
		return // published meanwhile
	}
	ready := append([]*commit(nil), s.queue[:n]...)
	s.queue = append(s.queue[:0], s.queue[n:]...)
	old := s.durable.Swap(c.view)
	for _, d := range ready {
		d.durable.Store(true)
	}
	s.prune()
	s.mu.Unlock()
	old.unref()
	s.wake(ready)
	for _, d := range ready {
		d.awaitSync() // over already; after it nobody looks at the batch
		d.repr = nil
		d.batch.release()
		if d != c {
			d.view.unref()
		}
	}
}

// prune drops write sets that no open or future transaction can need. s.mu is held.
func (s *Store) prune() {
	if s.applied == nil {
		return // Pebble is being reopened: there are no transactions
	}
	seq := s.applied.commit.seq
	if !s.limits.Pipelined {
		seq = s.durable.Load().commit.seq
	}
	if t := s.open.first; t != nil {
		seq = min(seq, t.v.commit.seq)
	}
	s.window.prune(seq)
}

// txnList holds the open transactions in the order they began, and so of their read versions. It is guarded by
// Store.mu.
type txnList struct{ first, last *txn }

// enter puts t at the end of the open transactions. s.mu is held.
func (s *Store) enter(t *txn) {
	t.open = true
	t.prev = s.open.last
	if t.prev != nil {
		t.prev.next = t
	} else {
		s.open.first = t
	}
	s.open.last = t
}

// enterBehind puts t right behind another open transaction, which has the same read version. s.mu is held.
func (s *Store) enterBehind(t, other *txn) {
	t.open, t.prev, t.next = true, other, other.next
	other.next = t
	if t.next != nil {
		t.next.prev = t
	} else {
		s.open.last = t
	}
}

// remove takes t out of the open transactions, if it is there. s.mu is held.
func (s *Store) remove(t *txn) {
	if !t.open {
		return
	}
	t.open = false
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		s.open.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		s.open.last = t.prev
	}
	t.prev, t.next = nil, nil
}

// leave takes t out of the open transactions, and drops what only t needed.
func (s *Store) leave(t *txn) {
	s.mu.Lock()
	if t.open {
		s.remove(t)
		s.prune()
	}
	s.mu.Unlock()
}
