package mvcc

import (
	"bytes"
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// Bounds of one transaction that removes compacted rows.
const (
	removeEntries = 1000
	removeBytes   = 1 << 20
)

// damagePause is the time between two attempts of a removal that meets damaged data. Until then, compacted data behind
// the damage keeps its space.
const damagePause = time.Minute

// removeGrace is how long entries stay after a compaction if others follow the log (package feed). A follower that is
// not further behind the head can still read what was compacted there. One that is further behind has to start again.
//
// A hub reads the larger values that its watchers want when it applies an entry. If it is further behind than the
// grace, it may find some values gone. It then sends such events without prev_kv, and cancels watches whose new value
// is gone, as after a compaction.
const removeGrace = 5 * time.Second

// Compact forbids reads below rev, and lets what only they need be removed. If physical is true, it returns when that
// has been removed. head is the header revision. Errors: ErrCompacted (rev has been compacted already),
// ErrFutureRevision, as Put, and with physical ErrCorrupt if the removal has met damaged data. In that last case the
// compaction itself has been done.
func (s *Store) Compact(ctx context.Context, rev int64, physical bool) (head int64, err error) {
	keep, err := s.hashBefore(ctx, rev)
	if err != nil {
		return 0, err
	}
	head, err = s.submitRev(ctx, compaction(rev))
	keep(err == nil)
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

// waitRemoved returns when all entries below rev are gone, whoever removes them, or when only a hold is in the way.
func (s *Store) waitRemoved(ctx context.Context, rev int64) error {
	_, err := s.waitRow(ctx, s.rows.meta(metaCompacted), func(ctx context.Context, r engine.Reader) (int64, error) {
		removed, err := s.removedOf(ctx, r)
		if err != nil || removed >= rev {
			return removed, err
		}
		if held, err := s.lowestHold(ctx, r, rev); err != nil || held < rev && removed >= held {
			return rev, err
		}
		return removed, nil
	}, rev)
	return err
}

// waitRow waits until the revision in a row is at least rev, and returns it. It ends with the Store too.
func (s *Store) waitRow(
	ctx context.Context, row []byte, parse func(context.Context, engine.Reader) (int64, error), rev int64,
) (int64, error) {
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

// removal is the background work behind compactions. It deletes log entries below the compact revision, and the hist
// rows that they name, in small transactions with a stored cursor. So the work is proportional to the garbage and
// survives restarts (I4). The entry at the compact revision stays, because a watch that starts there must get it, as in
// etcd. What that entry replaced stays for prev_kv if it is little (targetKeepsBytes). Otherwise it is removed: nothing
// at or above the compact revision reads it, and etcd too sends that event without prev_kv. So little is left of data
// that was deleted before a compaction, even if the compaction stops at the delete.
type removal struct {
	mu      sync.Mutex
	target  int64 // compact revision
	done    int64 // all entries below are gone, and what the entry at it replaced
	held    int64 // the revision up to which holds allow removal; MaxInt64: none is in the way
	damage  error // damage that the last attempt has met
	changed chan struct{}
	closed  <-chan struct{} // nothing is removed any more
	run     func()          // starts the remover; nil: it runs by itself
	running bool            // the remover was started and has not ended since
}

// start sets the function that starts the remover whenever there may be something to remove and it is not running. It
// calls run at once if that is so now.
func (r *removal) start(run func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run = run
	r.wake()
}

// wake starts the remover. r.mu is held.
func (r *removal) wake() {
	if r.run != nil && !r.running && r.target > neverCompacted {
		r.running = true
		r.run()
	}
}

// rest is called when nothing is left up to target. It returns false if there is more by now.
func (r *removal) rest(target int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = r.target > target
	return !r.running
}

func (r *removal) aim(rev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = max(r.target, rev)
	r.signal()
	r.wake()
}

func (r *removal) reached(rev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.damage = max(r.done, rev), nil
	r.signal()
}

// hold sets the revision up to which holds allow removal.
func (r *removal) hold(rev int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held != rev {
		r.held = rev
		r.signal()
	}
}

// holdsBack says whether everything below rev is gone except what somebody reads.
func (r *removal) holdsBack(rev int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held < rev && r.done >= r.held
}

// failed notes that damaged data is in the way.
func (r *removal) failed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.damage = err
	r.signal()
}

// damaged returns the damage that is in the way.
func (r *removal) damaged() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.damage
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

// wait returns when all entries below rev are gone, or only a hold is in the way. Errors: ErrClosed (that will not
// happen in this run), ErrCorrupt (nor soon), the context's.
func (r *removal) wait(ctx context.Context, rev int64) error {
	for {
		_, done, changed := r.state()
		if done >= rev || r.holdsBack(rev) {
			return nil
		}
		if err := r.damaged(); err != nil {
			return err
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
	r.target, r.done, r.held = s.compact.Load(), neverCompacted, math.MaxInt64
	var err error
	r.done, err = s.removedOf(ctx, snap)
	return err
}

// Removing says whether this Store removes, or will soon remove, what compactions no longer need. Then it should not be
// closed for good.
func (s *Store) Removing() bool {
	target, done, _ := s.removal.state()
	return done < target && s.removal.damaged() == nil
}

// removedOf returns the revision below which all log entries have been removed.
func (s *Store) removedOf(ctx context.Context, r engine.Reader) (int64, error) {
	row, err := r.Get(ctx, s.rows.meta(metaCompacted))
	if err != nil {
		return 0, storeErr(err)
	}
	return parseCompact(row)
}

// RemoveCompacted removes what compactions no longer need and the commit rows of processes that are gone, and keeps the
// buckets of the count index at their sizes, until ctx ends or the Store is closed. It is for Stores with
// Options.NoRemoval, of which one at a time does this for all. Two at the same time do the same work twice, which is
// harmless.
func (s *Store) RemoveCompacted(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	var wg sync.WaitGroup
	wg.Go(func() { s.sweepOldCommits(ctx) })
	wg.Go(func() { s.keepBuckets(ctx) })
	s.removeCompacted(ctx, removeGrace, false)
	wg.Wait()
}

// removeCompacted follows the compact revision until ctx ends or, with untilDone, nothing is left to remove. It waits
// for the grace between a compaction and the removal.
func (s *Store) removeCompacted(ctx context.Context, grace time.Duration, untilDone bool) {
	seen := int64(neverCompacted)
	holds := seenHolds{}
	for failures := 0; ctx.Err() == nil; {
		target, done, changed := s.removal.state()
		// If seen is less, another run may have left the entry at the target.
		if done >= target && (seen >= target || target <= 0) {
			if untilDone {
				if s.removal.rest(target) {
					return
				}
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if target > seen {
			seen = target
			_ = retry.Sleep(ctx, grace)
			s.awaitFollower(ctx, target)
		}
		next, whole, aim, err := s.removeBatch(ctx, done, target)
		if isDamage(err) {
			s.o.Logger.Error("compacted entries cannot be removed", "error", err, "retry", damagePause)
			s.removal.failed(wanted(logFrom(max(done, 0)), err))
			if untilDone && s.o.NoRemoval {
				return // the caller will call again
			}
			_ = retry.Sleep(ctx, damagePause)
			continue
		}
		if err != nil {
			failures++
			if ctx.Err() == nil {
				s.o.Logger.Warn("removal of compacted entries failed, will be tried again", "error", err)
			}
			pause(ctx, min(failures, unavailableMax))
			continue
		}
		failures = 0
		if next < target || whole {
			s.removal.reached(next)
		}
		if aim == target {
			s.removal.hold(math.MaxInt64)
			continue
		}
		s.removal.hold(aim)
		if next >= aim {
			s.awaitHolds(ctx, holds, target)
		}
	}
}

// awaitFollower returns when the follower of the feed has reached a revision, or after followedMax. A watcher that was
// at the head when a compaction was set must not lose events because of it.
func (s *Store) awaitFollower(ctx context.Context, rev int64) {
	if s.o.Followed == nil {
		return
	}
	for begin := time.Now(); s.o.Followed() < rev && time.Since(begin) < followedMax && ctx.Err() == nil; {
		_ = retry.Sleep(ctx, followedEvery)
	}
}

// errNothing says that there is nothing to remove.
var errNothing = errors.New("mvcc: nothing to remove")

// removeBatch deletes some entries from revision from on, below target, and then what the entry at target replaced. It
// returns how far it has come, and whether that was everything. aim is the target, or lower if holds require it.
func (s *Store) removeBatch(ctx context.Context, from, target int64) (next int64, whole bool, aim int64, err error) {
	var b removalBatch
	var try *removed
	err = s.update(ctx, func(txn engine.Txn) error {
		try = nil
		// Holds are read with a conflict, so that a hold taken in the meantime makes this run again.
		if aim, err = s.lowestHold(ctx, txn, target); err != nil {
			return err
		}
		b = removalBatch{s: s, next: aim, target: aim, whole: true}
		// Another process may be further. The cursor is read with a conflict, so that it never goes back.
		done, err := s.removedOf(ctx, txn)
		if err != nil {
			return err
		}
		if from = max(from, done); from > aim {
			b.next = from
			return errNothing
		}
		if err := b.readPart(ctx, txn); err != nil {
			return err
		}
		s.live.found(removedTo{done, b.partRev, b.partEvents})
		_, features, err := s.parseHead(txn, s.scanHead(ctx, txn))
		if err != nil {
			return err
		}
		begin, end := s.rows.log(nil, s.meta.Space.Stamp(max(from, 0))), s.rows.log(nil, s.meta.Space.Stamp(aim+1))
		it := txn.Scan(ctx, engine.Range{Begin: begin, End: end, NoConflict: true})
		defer it.Close()
		if err := s.visitLog(it, b.add); err != nil {
			return err
		}
		if b.next == done && b.freed == 0 && len(b.clears) == 0 {
			return errNothing
		}
		b.write(txn)
		txn.ClearRange(begin, s.rows.log(nil, s.meta.Space.Stamp(b.next)))
		txn.Set(s.rows.meta(metaCompacted), appendRev(nil, b.next))
		if features.Has(FeatureSizes) && b.freed != 0 {
			txn.Add(s.sizeRow, -b.freed)
			try = &removed{to: removedTo{b.next, b.leftRev, b.leftEvents}, freed: b.freed}
			s.live.try(try)
		}
		return nil
	})
	if errors.Is(err, errNothing) {
		return b.next, b.whole, aim, nil
	}
	if err == nil {
		if try != nil {
			s.live.happened(try)
		}
		s.usage.CompactedEntries.Add(b.entries)
	}
	return b.next, b.whole, aim, err
}
