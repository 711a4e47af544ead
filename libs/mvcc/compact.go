package mvcc

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Bounds of one transaction that removes compacted rows.
const (
	removeEntries = 1000
	removeBytes   = 1 << 20
)

// removeGrace is how long entries stay after a compaction where others follow the log (package feed): who is that far behind the head may still read
// what was compacted there, and who is further behind has to begin anew.
const removeGrace = time.Second

// Compact forbids reads below rev and lets what only they need be removed. With physical it returns when that is done. head is
// the header revision. Errors: ErrCompacted (rev has been compacted already), ErrFutureRevision, and as Put.
func (s *Store) Compact(ctx context.Context, rev int64, physical bool) (head int64, err error) {
	head, err = s.submitRev(ctx, compaction(rev))
	if err != nil || !physical {
		return head, err
	}
	if s.o.NoRemoval {
		return head, s.waitRemoved(ctx, rev)
	}
	return head, s.removal.wait(ctx, rev)
}

// compaction sets the compact revision.
type compaction int64

func (compaction) keys(func([]byte)) {}
func (compaction) grows() bool       { return false }
func (compaction) proves() bool      { return false }

func (c compaction) run(ctx context.Context, g *group, res *Result) error {
	was, err := g.compactRev(ctx)
	if err != nil {
		return err
	}
	switch rev := int64(c); {
	case rev <= was:
		return ErrCompacted
	case rev > g.num(g.rev):
		return ErrFutureRevision
	case rev > g.head:
		return errNextGroup
	}
	g.compact, g.compacts = int64(c), true
	res.Rev = g.rev
	return nil
}

// compactedTo is called when a compaction is durable, before its request is answered.
func (s *Store) compactedTo(rev int64) {
	for {
		old := s.compact.Load()
		if rev <= old {
			return
		}
		if s.compact.CompareAndSwap(old, rev) {
			s.removal.aim(rev)
			return
		}
	}
}

// followCompaction learns of the compactions of other processes until ctx ends.
func (s *Store) followCompaction(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		c, err := s.waitRow(ctx, s.compactRow, s.compactOf, s.compact.Load()+1)
		if err != nil {
			failures++
			pause(ctx, min(failures, unavailableMax))
			continue
		}
		failures = 0
		s.compactedTo(c)
	}
}

// waitRemoved returns when all entries below rev are gone, whoever removes them.
func (s *Store) waitRemoved(ctx context.Context, rev int64) error {
	_, err := s.waitRow(ctx, s.rows.meta(metaCompacted), s.removedOf, rev)
	return err
}

// waitRow waits until the revision in a row is at least rev, and returns it. It ends with the Store too.
func (s *Store) waitRow(ctx context.Context, row []byte, parse func(context.Context, engine.Reader) (int64, error), rev int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	for {
		var at int64
		var was []byte
		err := s.view(ctx, func(snap engine.Snapshot) (err error) {
			if was, err = snap.Get(ctx, row); err != nil {
				return err
			}
			was = bytes.Clone(was)
			at, err = parse(ctx, snap)
			return err
		})
		if err != nil || at >= rev {
			return at, err
		}
		if err := s.eng.WaitChange(ctx, row, was); err != nil {
			if s.closing.Err() != nil {
				return 0, ErrClosed
			}
			return 0, storeErr(err)
		}
	}
}

// removal is the background work behind compactions: log entries below the compact revision, and the hist rows they name, are
// deleted in small transactions with a stored cursor, so that it is proportional to the garbage and survives restarts (I4).
// The entry at the compact revision stays: etcd owes it to a watch that starts there.
type removal struct {
	mu      sync.Mutex
	target  int64 // compact revision
	done    int64 // all entries below are gone
	changed chan struct{}
	closed  <-chan struct{} // nothing is removed any more
}

func (r *removal) aim(rev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = max(r.target, rev)
	r.signal()
}

func (r *removal) reached(rev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = max(r.done, rev)
	r.signal()
}

func (r *removal) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *removal) state() (target, done int64, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.target, r.done, r.changed
}

// wait returns when all entries below rev are gone, or ErrClosed if that will not happen in this run.
func (r *removal) wait(ctx context.Context, rev int64) error {
	for {
		_, done, changed := r.state()
		if done >= rev {
			return nil
		}
		select {
		case <-changed:
		case <-r.closed:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Store) loadRemoval(ctx context.Context, snap engine.Snapshot) error {
	r := &s.removal
	r.changed = make(chan struct{})
	r.target, r.done = s.compact.Load(), neverCompacted
	var err error
	r.done, err = s.removedOf(ctx, snap)
	return err
}

// removedOf returns the revision below which all log entries have been removed.
func (s *Store) removedOf(ctx context.Context, r engine.Reader) (int64, error) {
	row, err := r.Get(ctx, s.rows.meta(metaCompacted))
	if err != nil {
		return 0, storeErr(err)
	}
	return parseCompact(row)
}

// RemoveCompacted removes what compactions no longer need, and the commit rows of processes that are gone, until ctx ends or
// the Store is closed. It is for Stores with Options.NoRemoval, of which one at a time does this for all; two that overlap do the
// same work twice, no harm.
func (s *Store) RemoveCompacted(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	var wg sync.WaitGroup
	wg.Go(func() { s.sweepOldCommits(ctx) })
	s.removeCompacted(ctx, removeGrace)
	wg.Wait()
}

// removeCompacted follows the compact revision until ctx ends. It lets the grace pass between a compaction and the removal.
func (s *Store) removeCompacted(ctx context.Context, grace time.Duration) {
	seen := int64(neverCompacted)
	for failures := 0; ctx.Err() == nil; {
		target, done, changed := s.removal.state()
		if done >= target {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if target > seen {
			seen = target
			sleep(ctx, grace)
		}
		next, err := s.removeBatch(ctx, done, target)
		if err != nil {
			failures++
			if ctx.Err() == nil {
				s.o.Logger.Warn("removal of compacted entries failed, will be tried again", "error", err)
			}
			pause(ctx, min(failures, unavailableMax))
			continue
		}
		failures = 0
		s.removal.reached(next)
	}
}

// removeBatch deletes some entries from revision from on, below target; it returns up to where it has come.
func (s *Store) removeBatch(ctx context.Context, from, target int64) (next int64, err error) {
	var entries int64
	err = s.update(ctx, func(txn engine.Txn) error {
		entries = 0
		next = target
		// Another process may have come further. That is read with a conflict, so that the cursor never goes back.
		done, err := s.removedOf(ctx, txn)
		if err != nil {
			return err
		}
		if from = max(from, done); from >= target {
			next = from
			return nil
		}
		begin, end := s.rows.log(nil, s.meta.Space.Stamp(max(from, 0))), s.rows.log(nil, s.meta.Space.Stamp(target))
		size := 0
		var clears [][]byte
		r := engine.Range{Begin: begin, End: end, NoConflict: true}
		err = s.scanLog(ctx, txn, r, func(st engine.Stamp, payload []byte) (bool, error) {
			rev := s.meta.Space.Of(st)
			if entries == removeEntries || size >= removeBytes {
				next = rev
				return false, nil
			}
			e, err := s.codec.Parse(payload, rev)
			if err != nil {
				return false, ErrCorrupt
			}
			for i := range e.Events {
				if e.Events[i].HasPrev {
					row := s.rows.hist(nil, e.Events[i].KV.Key, st)
					clears = append(clears, row)
					size += len(row)
				}
			}
			size += len(payload)
			entries++
			return true, nil
		})
		if err != nil {
			return err
		}
		for _, row := range clears {
			txn.Clear(row)
		}
		txn.ClearRange(begin, s.rows.log(nil, s.meta.Space.Stamp(next)))
		txn.Set(s.rows.meta(metaCompacted), appendRev(nil, next))
		return nil
	})
	if err == nil {
		s.usage.CompactedEntries.Add(entries)
	}
	return next, err
}
