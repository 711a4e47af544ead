package mvcc

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// The buckets of the count index are kept at their sizes in the background, in small transactions beside the groups.
// Each transaction reads the row of the last change with a conflict and writes it. So the changes come one after
// another, whoever makes them. A group that was evaluated before a change is evaluated again after it, unless it may
// count as it does (fences.go). The transactions read keys and counters without a conflict, so no group makes them
// fail.
//
// A bucket that has grown too large is split in two steps, because its right half cannot be counted and the boundary
// set in one step while others write. First the boundary is set. From then on groups count each side, and the keys that
// the right side had before still count on the left. Their number never changes: it is the difference between the keys
// of the right half and its counter, in any later state. The second step computes this number and moves it. A merge
// works the other way round: first groups count on the left, and then the counter, which nobody changes any more, is
// moved.
const (
	// bucketsLook is the part of what a bucket may have that must have been counted before the next look at the
	// counters. The first count after the keyspace has been opened is enough, so nothing is put off forever.
	bucketsLook = 8
	// bucketsEvery is the time between two looks at the counters of a keyspace that is being written.
	bucketsEvery = time.Second
	// bucketsRest is the pause before the next step, as a multiple of the time that the last step has taken.
	// bucketsRestFenced is the same where a step makes few groups fail.
	bucketsRest, bucketsRestFenced = 4, 1
	// bucketRowsDense and bucketRowsFar bound the keys that one step walks over. On a remote engine a transaction has
	// no time for more.
	bucketRowsDense = 64 << 10
	bucketRowsFar   = 16 << 10
	// bucketChangesMax bounds the boundaries that one step changes.
	bucketChangesMax = 256
	// bucketLoose sets when two buckets are merged: if together they have at most this part of what one may have.
	bucketLoose = 4
	// bucketOpen sets when a bucket's first count is delayed, and the bucket is cut before it: when it is this many
	// times larger than it may be.
	bucketOpen = 2
)

// keeper runs keepOwnBuckets while groups count.
type keeper struct {
	mu      sync.Mutex
	run     func() // nil: another process keeps the buckets
	running bool
	least   int64 // that must have been counted for a look at the counters
	counted int64 // by how much they have changed since the last look
}

// start sets what wakes the keeper: the first change, then least.
func (k *keeper) start(least int, run func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.run, k.least = run, max(1, int64(least))
	k.counted = k.least - 1
}

// changed is called when counters have changed by so much.
func (k *keeper) changed(by int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.counted += by; k.run != nil && !k.running && k.counted >= k.least {
		k.running = true
		k.run()
	}
}

// wake is called when the counters must be looked at.
func (k *keeper) wake() { k.changed(k.least) }

// look is called before a look at the counters.
func (k *keeper) look() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counted = 0
}

// rest returns false if there is to be another look.
func (k *keeper) rest() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = k.counted >= k.least
	return !k.running
}

// keepOwnBuckets keeps the buckets of a keyspace that nobody else writes, until ctx ends or nothing has been counted
// for a while.
func (s *Store) keepOwnBuckets(ctx context.Context) {
	for {
		s.keeper.look()
		s.settleBuckets(ctx)
		_ = retry.Sleep(ctx, bucketsEvery)
		if s.keeper.rest() || ctx.Err() != nil {
			return
		}
	}
}

// keepBuckets keeps the buckets of a keyspace that others write too, until ctx ends. While nobody writes it only waits.
func (s *Store) keepBuckets(ctx context.Context) {
	for ctx.Err() == nil {
		head := s.settleBuckets(ctx)
		if s.eng.WaitChange(ctx, s.headRow, head) != nil {
			pause(ctx, unavailableMax)
		}
		_ = retry.Sleep(ctx, bucketsEvery)
	}
}

// settleBuckets runs steps until the buckets need no more. It returns the head's row from before its last look at them.
func (s *Store) settleBuckets(ctx context.Context) (head []byte) {
	var t settling
	for failures := 0; ctx.Err() == nil; {
		begin := time.Now()
		fresh, begins := t.may(begin)
		head, did, err := s.stepBuckets(ctx, fresh, begins)
		if did == stepMoved && s.fenced(s.Features()) {
			t.move(time.Now(), fresh)
		}
		switch {
		case isDamage(err):
			s.o.Logger.Error("the buckets of the count index cannot be sized", "error", err, "retry", damagePause)
			_ = retry.Sleep(ctx, damagePause)
		case err != nil:
			failures++
			if ctx.Err() == nil {
				s.o.Logger.Warn("the buckets of the count index were not sized; will be tried again", "error", err)
			}
			pause(ctx, min(failures, unavailableMax))
		case did == stepNothing:
			return head
		case did == stepTooEarly:
			_ = retry.Sleep(ctx, t.left(time.Now()))
		default:
			failures = 0
			rest := time.Duration(bucketsRest)
			if s.fenced(s.Features()) {
				rest = bucketsRestFenced
			}
			_ = retry.Sleep(ctx, rest*time.Since(begin))
		}
	}
	return nil
}

// stepped is what a step has done.
type stepped int

const (
	stepNothing  stepped = iota // nothing is due
	stepTooEarly                // what is due must be left alone for a while
	stepSettled                 // where groups count is as before
	stepMoved
)

// stepBuckets changes the buckets as needed, as far as one transaction has room for it. head is the head's row before
// the step. fresh says that groups may be under way that have not seen the last change which moved something: the step
// does not stop them then, and begins further splits only if begins is true.
func (s *Store) stepBuckets(ctx context.Context, fresh, begins bool) (head []byte, did stepped, err error) {
	due := false
	err = s.view(ctx, func(snap engine.Snapshot) error {
		row, err := snap.Get(ctx, s.headRow)
		if err != nil {
			return err
		}
		head = bytes.Clone(row)
		_, f, err := parseHeadRow(head)
		if err != nil || !f.Has(FeatureCounts) {
			return err
		}
		k := bucketStep{s: s}
		err = k.load(ctx, snap)
		due = err == nil && k.due()
		return err
	})
	if err != nil || !due {
		return head, stepNothing, err
	}
	err = s.update(ctx, func(txn engine.Txn) error {
		k := bucketStep{s: s, txn: txn, rows: bucketRowsFar, fresh: fresh, begins: begins}
		if s.limits.Dense {
			k.rows = bucketRowsDense
		}
		err := k.run(ctx)
		if did = k.did(); err == nil && k.changes == 0 {
			return errNothing
		}
		return err
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return head, did, err
}

// bucketStep is one change of the buckets.
type bucketStep struct {
	s        *Store
	txn      engine.Txn
	features Features
	b        *buckets // nil: the feature has just been activated
	counters []int64
	fresh    bool // groups may be under way that a seal would stop
	begins   bool // more splits may be begun meanwhile
	rows     int  // that may still be walked over
	changes  int
	moves    bool // a change moves where groups count
	seals    bool
}

func (k *bucketStep) run(ctx context.Context) error {
	if err := k.load(ctx, k.txn); err != nil {
		return err
	}
	if k.b == nil {
		k.changes++
		k.moves = true
		newBuckets(k.txn, k.s.rows, bucketUncounted)
		return nil
	}
	steps := []func(context.Context) error{k.fold, k.settle, k.split, k.merge}
	switch open := k.s.fenced(k.features) && !k.b.plain && k.b.sealed < k.b.moved; {
	case open && k.fresh && k.begins:
		steps = []func(context.Context) error{k.cut, k.split}
	case open && k.fresh:
		steps = []func(context.Context) error{k.cut}
	case open:
		steps = []func(context.Context) error{k.seal}
	}
	for _, f := range steps {
		if err := f(ctx); err != nil {
			return err
		}
		if k.changes > 0 {
			k.changed()
			return nil
		}
	}
	return nil
}

// changed records the change.
func (k *bucketStep) changed() {
	next := k.b.next(k.moves)
	if k.seals {
		next.sealed = next.moved
	}
	k.txn.Set(k.s.bucketsRow, next.row(k.features))
}

// seal stops the groups that have not seen the last change which moved where groups count.
func (k *bucketStep) seal(context.Context) error {
	k.txn.AddWriteConflict(k.s.fence(0), k.s.fence(k.b.moved))
	k.seals = true
	k.changes++
	return nil
}

// did is what the step has done.
func (k *bucketStep) did() stepped {
	switch {
	case k.moves:
		return stepMoved
	case k.changes > 0:
		return stepSettled
	case k.fresh:
		return stepTooEarly
	}
	return stepNothing
}

// load reads the buckets and all counters, and the features of the same state: their activation conflicts with a step.
func (k *bucketStep) load(ctx context.Context, from engine.Reader) error {
	head := k.s.scanHead(ctx, from)
	row, err := from.Get(ctx, k.s.bucketsRow)
	_, features, headErr := k.s.parseHead(from, head)
	if err = errors.Join(err, headErr); err != nil {
		return err
	}
	k.features = features
	last, err := parseChange(row)
	if err != nil {
		return err
	}
	if k.b, err = k.s.bucketsOf(ctx, from, last); k.b == nil || err != nil {
		return err
	}
	k.counters = make([]int64, len(k.b.starts))
	r := k.s.rows.tableRange(tableCounter)
	r.NoConflict = true
	it := from.Scan(ctx, r)
	defer it.Close()
	for i := 0; it.Next(); i++ {
		start := k.s.rows.tableKey(it.Key())
		for i < len(k.b.starts) && bytes.Compare(k.b.starts[i], start) < 0 {
			i++
		}
		n, ok := engine.ParseCounter(it.Value())
		if !ok || i == len(k.b.starts) || !bytes.Equal(k.b.starts[i], start) {
			return ErrCorrupt
		}
		k.counters[i] = n
	}
	return it.Err()
}

// due reports whether something is to be done.
func (k *bucketStep) due() bool {
	return k.b == nil || !k.b.plain || slices.Max(k.counters) > int64(k.s.o.CountKeys) || len(k.loose()) > 0
}

// full reports whether the step has done as much as one step may.
func (k *bucketStep) full() bool { return k.rows <= 0 || k.changes >= bucketChangesMax }

// set sets the state of a bucket. Unless that is settled, groups count elsewhere from then on.
func (k *bucketStep) set(start []byte, state bucketState) {
	k.txn.Set(k.s.rows.boundary(nil, start), []byte{byte(state)})
	k.changes++
	k.moves = k.moves || state != bucketSettled
}

// add adds to the counter of a bucket.
func (k *bucketStep) add(i int, n int64) {
	if n != 0 {
		k.txn.Add(k.s.rows.counter(nil, k.b.starts[i]), n)
	}
}

// fold completes merges: it moves the counters that nobody changes any more.
func (k *bucketStep) fold(context.Context) error {
	for i, state := range k.b.states {
		if state != bucketMerged || k.full() {
			continue
		}
		base := i
		for k.b.states[base] == bucketMerged {
			base--
		}
		k.add(base, k.counters[i])
		k.txn.Clear(k.s.rows.counter(nil, k.b.starts[i]))
		k.txn.Clear(k.s.rows.boundary(nil, k.b.starts[i]))
		k.changes++
	}
	return nil
}

// settle counts the buckets whose counters are incomplete, and cuts those that are too large to be counted in one step.
// Of neighbours that will be merged it settles the last first, because what the others lack is counted in the same
// bucket.
func (k *bucketStep) settle(ctx context.Context) error {
	for i := len(k.b.states) - 1; i >= 0 && !k.full(); i-- {
		state := k.b.states[i]
		if state == bucketSettled {
			continue
		}
		settled, err := k.settleOne(ctx, i)
		if err != nil {
			return err
		}
		if !settled && state == bucketSplit {
			i = k.b.base(i)
		}
	}
	return nil
}

func (k *bucketStep) settleOne(ctx context.Context, i int) (settled bool, err error) {
	state, most := k.b.states[i], int64(k.s.o.CountKeys)
	starts, keys, whole, err := k.walk(ctx, i, most/2)
	if err != nil {
		return false, err
	}
	switch {
	case keys > bucketOpen*most, !whole && k.changes == 0:
		for _, start := range starts {
			k.set(start, state)
		}
		return false, nil
	case !whole: // left to the next step
		return false, nil
	}
	lacks := keys - k.counters[i]
	k.add(i, lacks)
	if state == bucketSplit {
		k.add(k.b.base(i), -lacks)
	}
	k.set(k.b.starts[i], bucketSettled)
	return true, nil
}

// split begins to split the buckets that have too many keys. It leaves alone those whose counters include keys of
// others, or lack some.
func (k *bucketStep) split(ctx context.Context) error {
	for i, n := range k.counters {
		most := int64(k.s.o.CountKeys)
		if n <= most || k.full() || k.b.states[i] != bucketSettled || k.b.group(i) > i+1 {
			continue
		}
		parts := (2*n + most - 1) / most
		starts, _, _, err := k.walk(ctx, i, (n+parts-1)/parts)
		if err != nil {
			return err
		}
		for _, start := range starts {
			k.set(start, bucketSplit)
		}
	}
	return nil
}

// cut goes on with splits that had no room in one step. It cuts the last bucket of each, which has what the steps
// before have not reached. So a bucket of any size needs only one seal.
func (k *bucketStep) cut(ctx context.Context) error {
	most := int64(k.s.o.CountKeys)
	for i, end := 0, 0; i < len(k.counters) && !k.full(); i = end {
		if end = k.b.group(i); k.unreached(i, end) <= bucketOpen*most {
			continue
		}
		starts, _, _, err := k.walk(ctx, end-1, most/2)
		if err != nil {
			return err
		}
		for _, start := range starts {
			k.set(start, bucketSplit)
		}
	}
	return nil
}

// unreached is about how many keys the last of the buckets from i to end has, if one bucket is being split into them:
// as many as there are in all, less those of the others.
func (k *bucketStep) unreached(i, end int) int64 {
	if end == i+1 || k.b.states[i] != bucketSettled {
		return 0
	}
	n := k.counters[i] - int64(end-i-1)*int64(k.s.o.CountKeys/2)
	for i++; i < end; i++ {
		if k.b.states[i] != bucketSplit {
			return 0
		}
		n += k.counters[i]
	}
	return n
}

// merge begins to merge buckets that have few keys together.
func (k *bucketStep) merge(context.Context) error {
	for _, i := range k.loose() {
		if !k.full() {
			k.set(k.b.starts[i], bucketMerged)
		}
	}
	return nil
}

// loose returns the buckets that have few keys together with those to their left.
func (k *bucketStep) loose() (out []int) {
	sum := k.counters[0]
	for i := 1; i < len(k.counters); i++ {
		if sum += k.counters[i]; sum > int64(k.s.o.CountKeys/bucketLoose) {
			sum = k.counters[i]
			continue
		}
		out = append(out, i)
	}
	return out
}

// walk walks over the keys of a bucket and returns every so manieth of them, but no more than the step may change.
// whole reports whether it has reached the end of the bucket.
func (k *bucketStep) walk(
	ctx context.Context, i int, every int64,
) (starts [][]byte, keys int64, whole bool, err error) {
	r := k.s.rows
	rng := engine.Range{
		Begin: r.idx(nil, k.b.starts[i]), End: r.table(nil, tableIdx+1), KeysOnly: true,
		NoConflict: true,
	}
	if end := k.b.end(i); end != nil {
		rng.End = r.idx(nil, end)
	}
	every = max(every, 1)
	it := k.txn.Scan(ctx, rng)
	defer it.Close()
	for it.Next() {
		if keys > 0 && keys%every == 0 {
			if k.changes+len(starts) >= bucketChangesMax {
				return starts, keys, false, nil
			}
			starts = append(starts, bytes.Clone(r.idxKey(it.Key())))
		}
		keys++
		if k.rows--; k.rows < 0 && len(starts) > 0 {
			return starts, keys, false, nil
		}
	}
	return starts, keys, true, it.Err()
}
