package mvcc

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// pauses are the waits before a lane, or work beside the groups, tries again what the engine has refused.
var pauses = retry.Policy{Min: 5 * time.Millisecond, Max: 700 * time.Millisecond}

// lane runs one group after the other. On a pipelined engine, and if more requests wait, it evaluates the next group
// before the previous one is synced. Groups still land in order.
type lane struct {
	s   *Store
	id  int
	seq uint64
	row []byte
	// exact says that the last group had to keep a bound exactly. Such groups of one Store would conflict with one
	// another, so they run one at a time.
	exact bool
	// asking is how many more groups are to begin without BeginRecent.
	asking int

	// A heavy lane belongs to another lane. The two share the way to disk: see heavy.go.
	*runway
	beside    *lane // the heavy lane of this one, which has its sequence from one run to the next
	heavy     bool
	exclusive bool          // the other lane waits during the heavy lane's next attempt
	held      time.Duration // how long it has waited for that

	entered Turn // what the lane holds a turn of; nil: none
	// slow says that the group has moved to turns of Heavies. long says that an earlier attempt with the same requests
	// has done so and failed.
	slow, long bool
}

// flight is a group whose commit has been started.
type flight struct {
	g       *group
	reqs    []*request
	pending engine.Pending
	seq     uint64
	laps    laps
}

// run serves the queue until it is closed or retired, and empty. It may be called again then.
func (l *lane) run() {
	s := l.s
	l.runway = &runway{}
	if s.limits.Pipelined {
		l.flights = make(chan *flight, inFlightMax)
		l.landing.Go(l.land)
	}
	l.allowHeavy()
	for {
		reqs := l.fetch()
		if reqs == nil {
			break
		}
		l.process(s.work, reqs)
		l.leave()
		s.queue.landed(l.id)
	}
	l.endHeavy()
	if l.flights != nil {
		close(l.flights)
		l.landing.Wait()
	}
	l.runway = nil // an idle keyspace has no use for the heavy lane's queue
	if l.beside != nil {
		l.beside.runway = nil
	}
}

func (l *lane) land() {
	for f := range l.flights {
		l.finish(l.s.work, f)
		l.flying.Add(-1)
	}
}

// process runs requests until each has its answer or has been handed on.
func (l *lane) process(ctx context.Context, reqs []*request) {
	var conflicts, unavailable int
	var since time.Time               // start of the first attempt that did not reach the engine
	outage := l.s.queue.outage.Load() // an outage known before: one attempt shows whether it is over
	recent := l.tryRecent(reqs)
	l.long = false
	for range attemptsMax {
		if reqs = dropCancelled(reqs); len(reqs) == 0 {
			return
		}
		if ctx.Err() != nil { // the Store is closing and the engine does not answer
			fail(reqs, ErrUnavailable)
			return
		}
		begin := time.Now()
		done, err := l.attempt(ctx, reqs, &recent)
		if err == nil {
			if rest := l.part(reqs[done:]); len(rest) > 0 {
				l.s.queue.putBack(rest)
			}
			return
		}
		class := engine.ClassOf(err)
		if class == engine.Unavailable {
			if since.IsZero() {
				since = begin
			}
			l.s.queue.unreached(since)
		}
		l.s.queue.stats.Retries[retryOf(err, recent)].Add(1)
		if recent { // the recent state may be the cause of any error
			recent, l.asking = false, askingGroups
			l.s.usage.Outdated.Add(1)
			continue
		}
		if isParting(err) {
			reqs = l.part(reqs)
			continue
		}
		l.s.usage.Retries.Add(1)
		switch hit, ok := errors.AsType[*hit](err); {
		case ok:
			l.sidestep(ctx, reqs, hit)
			return
		case isDamage(err): // of a row that every request needs
			fail(reqs, l.s.noted(storeErr(err)))
			return
		case class.Rerun():
			l.s.usage.Conflicts.Add(1)
			l.long = l.slow
			if conflicts++; conflicts >= conflictSplitAfter && len(reqs) > 1 {
				l.split(ctx, reqs)
				return
			}
			l.exclusive = l.heavy && conflicts >= conflictSplitAfter
			// A commit that has its place in the order but is not durable yet conflicts with every attempt until it is:
			// wait.
			if conflicts >= conflictSplitAfter {
				pause(ctx, min(conflicts-conflictSplitAfter, conflictPauses))
			}
		case class == engine.NoSpace:
			// Judge each request by itself: a large one must not fail those that came with it.
			if len(reqs) > 1 {
				l.split(ctx, reqs)
				return
			}
			// A compaction is refused only while the engine's own work takes up the last of the space. That passes.
			if unavailable++; spaceNeedOf(reqs[0].m) != leadsOut || unavailable > unavailableMax {
				fail(reqs, storeErr(err))
				return
			}
			pause(ctx, unavailable)
		case class == engine.Unavailable:
			if unavailable++; unavailable > unavailableMax || outage {
				fail(reqs, storeErr(err))
				return
			}
			pause(ctx, unavailable)
		case len(reqs) > 1:
			l.split(ctx, reqs)
			return
		default:
			fail(reqs, storeErr(err))
			return
		}
	}
	fail(reqs, ErrTooManyRequests)
}

// split runs the halves of a group one after the other, so that one bad or hot request cannot starve the rest.
func (l *lane) split(ctx context.Context, reqs []*request) {
	half := len(reqs) / 2
	l.process(ctx, reqs[:half:half])
	l.process(ctx, reqs[half:])
}

// sidestep answers the request that was hit, then runs the requests before it, which were found good, and those behind
// it.
func (l *lane) sidestep(ctx context.Context, reqs []*request, h *hit) {
	fail(reqs[h.index:h.index+1], h.err)
	l.process(ctx, reqs[:h.index:h.index])
	l.process(ctx, reqs[h.index+1:])
}

// spaceNeed tells how a request changes the space that the store needs.
type spaceNeed int

const (
	takesSpace spaceNeed = iota // refused when space has run out
	givesSpace                  // deletes, revocations
	leadsOut                    // compactions
)

func spaceNeedOf(m mutation) spaceNeed {
	if _, ok := m.(compaction); ok {
		return leadsOut
	}
	if m.grows() {
		return takesSpace
	}
	return givesSpace
}

// markSpace allows the transaction to use the engine's reserve if none of its requests takes space.
func markSpace(txn engine.Txn, reqs []*request) {
	need := leadsOut
	for _, r := range reqs {
		need = min(need, spaceNeedOf(r.m))
	}
	switch need {
	case takesSpace:
	case givesSpace:
		markShrinks(txn)
	case leadsOut:
		markVital(txn)
	}
}

func markShrinks(txn engine.Txn) {
	if t, ok := txn.(engine.Shrinker); ok {
		t.Shrinks()
	}
}

// markVital allows the transaction the reserve for what leads out of a full disk. An engine that knows only one reserve
// gives that.
func markVital(txn engine.Txn) {
	if t, ok := txn.(engine.Vital); ok {
		t.Vital()
		return
	}
	markShrinks(txn)
}

// pause waits before the next attempt; n is the number of failures before the last one. The caller checks ctx
// afterwards.
func pause(ctx context.Context, n int) { _ = pauses.Wait(ctx, n) }

// attempt evaluates requests and commits what they change. It returns how many it has taken on: those are answered when
// it returns, or will be when their flight lands. After an error none has been taken on, and nothing has happened.
// *recent allows the use of a recent state, and tells afterwards whether one was used.
func (l *lane) attempt(ctx context.Context, reqs []*request, recent *bool) (int, error) {
	laps := laps{begun: l.s.queue.now()}
	if !l.heavy || l.exclusive {
		if !l.turn.TryLock() {
			l.leave() // the heavy lane may hold the way to disk for long
			l.turn.Lock()
		}
		defer l.turn.Unlock()
	}
	if l.exact {
		l.leave() // the lane waits for a commit
		l.s.crowd.Lock()
		defer l.s.crowd.Unlock()
	}
	l.slow = l.long
	if err := l.enter(ctx, reqs); err != nil {
		return 0, err
	}
	defer l.leave()
	if l.exclusive {
		defer func(begin time.Time) { l.held += time.Since(begin) }(time.Now())
	}
	txn, err := l.begin(ctx, recent)
	if err != nil {
		return 0, err
	}
	g := l.s.newGroupOf(nil, txn, reqs)
	g.allow, g.pace, g.heldMax = l.allowance(), l.newPace(), groupHeld(l.s.limits)
	n, err := g.evaluate(ctx, reqs)
	l.exact = g.keysExact
	if err == nil && *recent && !g.proved(reqs[:n]) {
		err = errMayBeOutdated
	}
	if err != nil {
		txn.Discard()
		return 0, err
	}
	f := &flight{g: g, reqs: reqs[:n], seq: l.seq + 1}
	if g.changed() {
		l.seq = f.seq
		g.build(txn, l.row, f.seq)
	}
	markSpace(txn, f.reqs)
	if l.heavy && !l.exclusive {
		l.turn.Lock()
		defer l.turn.Unlock()
		if g.needsHead {
			txn.AddReadConflict(l.s.headRow, append(l.s.headRow[:len(l.s.headRow):len(l.s.headRow)], 0))
		}
	}
	laps.sent = l.s.queue.now()
	if f.pending, err = txn.Commit(ctx); err != nil {
		txn.Discard()
		return 0, err
	}
	l.leave()            // others need not wait for the disk
	l.s.keys.Add(g.born) // in the order of commits, because the next group is judged by it
	l.s.usage.Groups.Add(1)
	f.laps = laps
	l.s.queue.stats.sent(f.reqs, laps)
	if l.flights != nil && (l.heavy || l.flying.Load() > 0 || l.s.queue.waiting() > 0) {
		l.flying.Add(1)
		l.flights <- f
		return n, nil
	}
	return n, l.finish(ctx, f)
}

// newGroupOf returns a group for requests, none of which has an outcome yet, with the memory of another (nil: none).
func (s *Store) newGroupOf(other *group, txn engine.Reader, reqs []*request) *group {
	size := 0
	for _, r := range reqs {
		r.heavy, r.refusal = false, nil // left from an attempt that failed
		if size += r.bytes; s.Features().Has(FeatureValues) {
			size -= max(0, r.bytes-entryBytes) // larger values are not in the entries
		}
	}
	return other.reuse(s, txn, len(reqs), size)
}

// evaluate runs the requests in order and returns how many of them fit. The others belong to the next group.
func (g *group) evaluate(ctx context.Context, reqs []*request) (int, error) {
	if err := g.load(ctx, reqs); err != nil {
		return 0, err
	}
	for i, r := range reqs {
		r.res, r.err = Result{}, nil
		g.wanted = 0
		g.budgetOf(r)
		err := g.admit(r.access)
		if err == nil {
			err = g.admitFollowing(r.m)
		}
		if err == nil {
			err = g.admitSpace(r.m)
		}
		if err == nil {
			err = r.m.run(ctx, g, &r.res)
		}
		changed := g.open
		r.made = changed
		g.end()
		if isParting(err) {
			r.parts(err)
			if i > 0 && !changed {
				return i, nil
			}
			return 0, err
		}
		switch {
		case isDamage(err):
			r.err = wanted(r.m, g.s.noted(storeErr(err)))
			if changed {
				return 0, &hit{i, r.err}
			}
		case errors.Is(err, errNextGroup) && i > 0:
			return i, nil
		case isAnswer(err):
			r.err = err
		case err != nil:
			return 0, err
		}
	}
	return len(reqs), nil
}

// isAnswer reports whether err is the answer to one request and not a failure of the group. It compares and does not
// unwrap: an engine error joined with one of these is no answer.
func isAnswer(err error) bool {
	return slices.Contains([]error{
		ErrCompacted, ErrFutureRevision, ErrLeaseNotFound, ErrLeaseExists, ErrLeaseEnding, errNoSteps,
		ErrKeyNotFound, ErrFenced, errKeysMax, errQuota, ErrAuthOld, ErrDenied,
		ErrFollowing, ErrNotFollowing, ErrGap, ErrDiverged,
	}, err)
}

// finish waits for a commit and answers its requests. If it returns an error, nothing has happened and no request has
// been answered. The exception is a pipelined engine: a commit that does not become durable there ends everything after
// it as well.
func (l *lane) finish(ctx context.Context, f *flight) error {
	first, err := f.pending.Wait(ctx)
	if err != nil && l.flights == nil && !isRefusal(err) {
		first, err = l.resolve(ctx, f, err)
		l.s.queue.stats.Unknown[unknownOf(err)].Add(1)
	}
	if err != nil {
		l.s.keys.Add(-f.g.born)
	}
	f.laps.known = l.s.queue.now()
	l.s.queue.stats.Commit.Observe(1, f.laps.known-f.laps.sent)
	switch {
	case err == nil:
	case l.flights != nil:
		fail(f.reqs, storeErr(err))
		return nil
	case errors.Is(err, errUnresolved):
		fail(f.reqs, ErrUnavailable)
		return nil
	default:
		return err
	}
	l.answer(f, first)
	return nil
}

// answer hands on what a durable group has made, and answers its requests.
func (l *lane) answer(f *flight, first engine.Stamp) {
	s := l.s
	s.queue.reached()
	entries := f.g.settle(first)
	if len(entries) > 0 {
		s.Told(entries[len(entries)-1].Rev)
	}
	if f.g.compacts {
		s.compactedTo(f.g.compact)
	}
	for _, r := range f.reqs {
		r.release() // before their bytes count as written
	}
	s.grew(f.g.features, f.g.grown)
	if f.g.counted > 0 {
		s.keeper.changed(f.g.counted)
	}
	s.usage.Events.Add(int64(len(f.g.events)))
	if s.o.AuthChanged != nil && f.g.auth > s.auth.fed {
		s.auth.fed = f.g.auth
		s.o.AuthChanged(f.g.auth)
	}
	if s.o.Feed != nil && len(entries) > 0 {
		s.o.Feed(entries)
	}
	if s.o.Committed != nil && len(entries) > 0 {
		s.o.Committed()
	}
	f.laps.told = s.queue.now()
	for _, r := range f.reqs {
		if r.err == nil {
			f.g.settleResult(&r.res, first)
			s.recentHead.knew(r.res.Rev)
		}
		s.over(r.err)
		r.laps = f.laps
		r.finish()
	}
}

// isRefusal reports whether an error of Wait says for certain that nothing was committed, and process knows how to go
// on.
func isRefusal(err error) bool {
	class := engine.ClassOf(err)
	return class.Rerun() || class.Refusal()
}

// errUnresolved says that the outcome of a commit could not be found out in time.
var errUnresolved = errors.New("mvcc: commit outcome not known")

// resolve finds out what became of a commit whose Wait has returned cause. It reads the lane's row (I5): if the row has
// the same sequence, the commit has happened, with the stamp in the row. The engine promises that the commit is no
// longer under way. A commit that has not happened is run again, unless cause belongs to no class of engine errors:
// then it would fail again.
func (l *lane) resolve(ctx context.Context, f *flight, cause error) (engine.Stamp, error) {
	if !f.g.changed() {
		return engine.Stamp{}, engine.ErrConflict // nothing was written: run it again
	}
	since := time.Now()
	for n := range attemptsMax {
		first, ok, err := l.readBack(ctx, f)
		switch {
		case err != nil:
			l.s.queue.unreached(since)
			if n > unavailableMax*unavailableMax || errors.Is(err, engine.ErrClosed) ||
				n > unavailableMax && l.s.closing.Err() != nil {
				return engine.Stamp{}, errUnresolved
			}
			pause(ctx, min(n, unavailableMax))
		case ok:
			return first, nil
		case isOpen(cause):
			return engine.Stamp{}, engine.ErrConflict
		default:
			return engine.Stamp{}, cause
		}
	}
	return engine.Stamp{}, errUnresolved
}

// isOpen reports whether an error of Wait leaves open if the commit has happened.
func isOpen(err error) bool {
	switch engine.ClassOf(err) {
	case engine.UnknownOutcome, engine.Unavailable, engine.Closed, engine.Ended:
		return true
	}
	return false
}

func (l *lane) readBack(ctx context.Context, f *flight) (first engine.Stamp, ok bool, err error) {
	snap, err := l.s.eng.Snapshot(ctx)
	if err != nil {
		return first, false, err
	}
	defer snap.Close()
	b, err := snap.Get(ctx, l.row)
	if err != nil {
		return first, false, err
	}
	if len(b) < 8 || binary.BigEndian.Uint64(b) != f.seq {
		return first, false, nil
	}
	if len(f.g.entries) == 0 {
		return first, true, nil
	}
	// rowWriter.commit put the stamp of index 0 there.
	if first, err = engine.ParseStamp(b[8:]); err != nil {
		return first, false, ErrCorrupt
	}
	return first, true, nil
}

func dropCancelled(reqs []*request) []*request {
	kept := reqs[:0]
	for _, r := range reqs {
		if err := r.ctx.Err(); err != nil || r.ended.Load() {
			r.err = err
			r.finish()
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

func fail(reqs []*request, err error) {
	for _, r := range reqs {
		r.err = err
		r.finish()
	}
}
