package mvcc

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// staleScansMax is how many times in a row a list may lose its read version without making progress.
const staleScansMax = 8

// Visit receives the results of a Range in order. The KV and its slices are valid only during the call.
type Visit func(kv *KV) error

// RangeInfo is what a Range returns besides the keys.
type RangeInfo struct {
	Rev   int64 // header: the head at the range's snapshot, also for a range at an older revision
	Count int64 // keys in the range at its revision, whatever the limit and the filters
	More  bool  // keys were left out because of the limit
}

// Range visits the keys of a range at one revision (etcd KV.Range). It is linearizable: it sees every write
// acknowledged before the call. With Serializable and without a revision it may miss what other processes have written
// in the last moments, if the engine has cheaper snapshots that are slightly old. It never misses what this process has
// answered or told of (see Told). Errors: ErrCompacted, ErrFutureRevision, ErrUnavailable, the context's, and visit's.
func (s *Store) Range(ctx context.Context, req *RangeRequest, visit Visit) (RangeInfo, error) {
	s.usage.Ranges.Add(1)
	turn, err := s.beginRead(ctx)
	if err != nil {
		return RangeInfo{}, err
	}
	defer turn.end()
	told := 0
	var deadline time.Time
	for stale := 0; ; stale++ {
		q := query{s: s, req: req, told: &told, turn: &turn}
		info, err := q.open(ctx, visit)
		if errors.Is(err, ErrUnfinished) && !q.visited && s.awaitWhole(ctx, &deadline) {
			continue
		}
		if !errors.Is(err, engine.ErrTooOld) || q.visited || stale == staleScansMax {
			return info, wanted(req, s.noted(storeErr(err)))
		}
	}
}

// query is one Range at one revision. It uses one Reader, or several when that grows too old.
type query struct {
	s    *Store
	req  *RangeRequest
	head int64 // of the first reader
	rev  int64
	// floor is the lowest head that a recent state must show.
	floor int64

	reader   engine.Reader
	snap     engine.Snapshot // reader, if it is the query's own and may be replaced
	visited  bool            // the caller has seen a result, so the query cannot start over
	told     *int            // bytes reported to the request's Hold, by all attempts; nil: no reports
	gathered int
	turn     *reading // nil: the request that the query is a part of has one
	allowed  bool     // rev is known not to be compacted in the state that is read
	// budget is the budget of the request that the query is a part of. It is nil if the query is a request of its own,
	// which only its context bounds.
	budget *budget
}

// open runs the query in snapshots that it opens itself.
func (q *query) open(ctx context.Context, visit Visit) (info RangeInfo, err error) {
	if !q.req.Serializable || q.req.Rev > 0 || q.s.older == nil {
		q.snap, err = q.s.eng.Snapshot(ctx)
		return q.openAt(ctx, visit, err)
	}
	q.floor = q.s.told.Load() // read before the snapshot: later news need not be in it
	q.snap, err = q.s.older.RecentSnapshot(ctx)
	if info, err = q.openAt(ctx, visit, err); errors.Is(err, errBehind) {
		q.floor = 0 // a current state lacks nothing
		q.snap, err = q.s.eng.Snapshot(ctx)
		info, err = q.openAt(ctx, visit, err)
	}
	return info, err
}

// errBehind says that a recent state lacks a revision that this process has told of. Nothing has been visited.
var errBehind = errors.New("mvcc: the recent state is older than what this process has answered")

// openAt runs the query in a snapshot. err is the error of opening the snapshot, if any.
func (q *query) openAt(ctx context.Context, visit Visit, err error) (info RangeInfo, _ error) {
	if err != nil {
		return info, err
	}
	defer func() { q.snap.Close() }()
	q.reader = q.snap
	if single(q.req.End) && q.req.Rev <= 0 && !q.s.limits.Dense {
		return q.latestPoint(ctx, visit)
	}
	head, err := q.s.headOf(ctx, q.snap)
	if err != nil {
		return info, err
	}
	if head < q.floor {
		return info, errBehind
	}
	if err := q.s.admits(ctx, q.snap, q.req.Access); err != nil {
		return info, err
	}
	q.head, q.rev = head, head
	if q.req.Rev > 0 {
		q.rev = q.req.Rev
	}
	info, err = q.run(ctx, func(kv *KV) error {
		q.visited = true
		return visit(kv)
	})
	info.Rev = head
	return info, err
}

func (q *query) run(ctx context.Context, visit Visit) (RangeInfo, error) {
	if q.rev > q.head {
		return RangeInfo{}, ErrFutureRevision
	}
	if err := q.checkCompacted(ctx); err != nil {
		return RangeInfo{}, err
	}
	if single(q.req.End) {
		return q.point(ctx, visit)
	}
	if !toEnd(q.req.End) && bytes.Compare(q.req.Key, q.req.End) >= 0 {
		return RangeInfo{}, nil
	}
	switch {
	case q.req.CountOnly:
		n, err := q.count(ctx, q.req.Key)
		return RangeInfo{Count: n}, err
	case q.req.inKeyOrder():
		return q.ordered(ctx, visit)
	}
	return q.sorted(ctx, visit)
}

// checkCompacted reads the compact revision in the same state as the data. A read at the head needs no check.
func (q *query) checkCompacted(ctx context.Context) error {
	if q.rev == q.head || q.allowed {
		return nil
	}
	c, err := q.s.compactOf(ctx, q.reader)
	if err != nil {
		return err
	}
	if q.rev < c {
		return ErrCompacted
	}
	return nil
}

// inKeyOrder reports whether results leave in key order, so that the limit may be applied while scanning: etcd's
// default order, and no filter on revisions.
func (r *RangeRequest) inKeyOrder() bool {
	return r.Target == SortByKey && r.Order != SortDescend && !r.filtered()
}

func (r *RangeRequest) filtered() bool {
	return r.MinMod != 0 || r.MaxMod != 0 || r.MinCreate != 0 || r.MaxCreate != 0
}

func (r *RangeRequest) keep(kv *KV, num func(int64) int64) bool {
	mod, create := num(kv.Mod), num(kv.Create)
	switch {
	case r.MinMod != 0 && mod < r.MinMod, r.MaxMod != 0 && mod > r.MaxMod:
		return false
	case r.MinCreate != 0 && create < r.MinCreate, r.MaxCreate != 0 && create > r.MaxCreate:
		return false
	}
	return true
}

func settled(rev int64) int64 { return rev }

// strip removes what keys_only leaves out. etcd 3.7 leaves out the lease too, except where it has to read values to
// sort by them (kvstore_txn.go).
func (r *RangeRequest) strip(kv *KV) {
	if !r.KeysOnly {
		return
	}
	kv.Value = nil
	if r.Target != SortByValue {
		kv.Lease = 0
	}
}

// values reports whether the range must read values.
func (r *RangeRequest) values() bool { return r.need() == needValue }

func (r *RangeRequest) need() need {
	switch {
	case r.CountOnly:
		return needKey
	case r.KeysOnly && r.Target != SortByValue:
		return needMeta
	}
	return needValue
}

func (q *query) point(ctx context.Context, visit Visit) (RangeInfo, error) {
	var kv KV
	ok, err := q.s.get(ctx, q.reader, q.req.Key, q.rev, q.head, q.req.values(), &kv)
	if err != nil || !ok {
		return RangeInfo{}, err
	}
	return q.found(&kv, visit)
}

// found answers a range of one key, which exists.
func (q *query) found(kv *KV, visit Visit) (RangeInfo, error) {
	info := RangeInfo{Count: 1}
	if q.req.CountOnly || !q.req.keep(kv, settled) {
		return info, nil
	}
	q.req.strip(kv)
	q.visited = true
	return info, visit(kv)
}

// latestPoint reads one key at the head, and the head itself, in one round trip: most of the cost of a read from a
// shared engine is the round trip. The embedded engine's head is cached and comes first.
func (q *query) latestPoint(ctx context.Context, visit Visit) (RangeInfo, error) {
	s := q.s
	state := s.readState(ctx, q.snap)
	row := s.scanKey(ctx, q.snap, q.req.Key)
	defer row.Close()
	head, auth, err := state.finish(ctx) // first, because others may wait for it
	switch {
	case err != nil:
	case head < q.floor:
		err = errBehind
	case auth == 0:
		err = s.admits(ctx, q.snap, q.req.Access)
	case q.req.Access != nil:
		err = s.admit(auth, q.req.Access)
	}
	info := RangeInfo{Rev: head}
	if err != nil {
		return info, err
	}
	if !row.Next() {
		return info, storeErr(row.Err())
	}
	var kv KV
	ok, err := s.current(ctx, q.snap, row.Value(), q.req.Key, math.MaxInt64, q.req.values(), &kv)
	if err != nil || !ok {
		return info, err
	}
	info, err = q.found(&kv, visit)
	info.Rev = head
	return info, err
}

// ordered streams the range in key order, and counts the keys behind the limit.
func (q *query) ordered(ctx context.Context, visit Visit) (RangeInfo, error) {
	limit := q.req.Limit
	if limit <= 0 {
		limit = -1
	}
	var info RangeInfo
	var last []byte
	err := q.scan(ctx, q.req.Key, q.req.need(), limit, func(kv *KV) error {
		info.Count++
		last = append(last[:0], kv.Key...)
		q.req.strip(kv)
		return visit(kv)
	})
	if err != nil || limit < 0 || info.Count < limit {
		return info, err
	}
	left, err := q.countAfter(ctx, last)
	info.Count += left
	info.More = left > 0
	return info, err
}

// countAfter counts the keys of the range behind last. It remembers what the page before has counted, so that the pages
// of a list count its keys only once.
func (q *query) countAfter(ctx context.Context, last []byte) (int64, error) {
	next := slices.Concat(last, []byte{0})
	memo := &q.s.counts
	if left, ok := memo.get(q.rev, q.req.Key, q.req.End); ok {
		left -= q.req.Limit
		memo.put(q.rev, next, q.req.End, left)
		return left, nil
	}
	left, err := q.count(ctx, next)
	if err == nil && left > 0 {
		memo.put(q.rev, next, q.req.End, left)
	}
	return left, err
}

// sorted collects the range, then arranges it. With order NONE the limit is applied in key order before a sort by
// another target, because etcd treats NONE as its default order (txn/range.go). No more than that is kept.
func (q *query) sorted(ctx context.Context, visit Visit) (RangeInfo, error) {
	var info RangeInfo
	var kvs []KV
	req := q.req
	cut := req.Order == SortNone && !req.filtered() && req.Limit > 0
	err := q.scan(ctx, req.Key, req.need(), -1, func(kv *KV) error {
		info.Count++
		if cut && info.Count-1 > req.Limit || !req.keep(kv, settled) {
			return nil
		}
		// The key counts again when it is visited.
		if err := q.gather(resultBytes(len(kv.Key), len(kv.Value)) / 2); err != nil {
			return err
		}
		kvs = append(kvs, cloneKV(kv))
		return nil
	})
	if err != nil {
		return info, err
	}
	if kvs, info.More, err = req.arrange(ctx, kvs, settled); err != nil {
		return info, err
	}
	for i := range kvs {
		if err := visit(&kvs[i]); err != nil {
			return info, err
		}
	}
	return info, nil
}

// gather reports bytes that are gathered before they are visited to the request's Hold.
func (q *query) gather(bytes int) error {
	q.gathered += bytes
	if q.told == nil || q.req.Hold == nil || q.gathered <= *q.told {
		return nil
	}
	err := q.req.Hold(q.gathered - *q.told)
	*q.told = q.gathered
	return err
}

func cloneKV(kv *KV) KV {
	c := *kv
	c.Key, c.Value = bytes.Clone(kv.Key), bytes.Clone(kv.Value)
	return c
}

// scan visits the keys from key to the range's end in order at q.rev, up to limit (-1: all). When the read version has
// grown too old it continues behind the last key with a new one, at the same revision (docs/design.md §3).
func (q *query) scan(ctx context.Context, key []byte, need need, limit int64, visit Visit) error {
	var seen int64
	var last []byte
	for stale := 0; ; {
		c := cursor{
			s:      q.s,
			r:      q.reader,
			rev:    q.rev,
			head:   q.head,
			need:   need,
			limit:  limit,
			renews: q.snap != nil,
			budget: q.budget,
		}
		if limit >= 0 {
			c.limit = limit - seen
		}
		before := seen
		err := c.scan(ctx, key, q.req.End, func(kv *KV) error {
			seen++
			last = append(append(last[:0], kv.Key...), 0)
			if err := q.turn.row(ctx, kv); err != nil {
				return err
			}
			return visit(kv)
		})
		tooOld, renew := errors.Is(err, engine.ErrTooOld), errors.Is(err, errRenew)
		if !tooOld && !renew || q.snap == nil {
			return err
		}
		if seen > before {
			stale, key = 0, bytes.Clone(last)
		}
		if renew {
			err = q.renew(ctx)
		}
		for errors.Is(err, engine.ErrTooOld) {
			if stale++; stale > staleScansMax {
				return err
			}
			err = q.refresh(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// renew replaces a reader that is still good but holds much memory. If a compaction has reached the list's revision
// meanwhile, the list keeps its reader and continues, as lists do in etcd.
func (q *query) renew(ctx context.Context) error {
	fresh, err := q.s.eng.Snapshot(ctx)
	if err != nil {
		return nil //nolint:nilerr // the reader is good
	}
	next := *q
	next.snap, next.reader = fresh, fresh
	if next.head, err = q.s.headOf(ctx, fresh); err == nil {
		err = next.checkCompacted(ctx)
	}
	if err != nil {
		fresh.Close()
		return ctx.Err()
	}
	q.snap.Close()
	q.snap, q.reader, q.head = next.snap, next.reader, next.head
	return nil
}

// refresh takes a new snapshot. The head has moved on by then, so the scan reads history from here on.
func (q *query) refresh(ctx context.Context) error {
	fresh, err := q.s.eng.Snapshot(ctx)
	if err != nil {
		return err
	}
	q.snap.Close()
	q.snap, q.reader = fresh, fresh
	q.head, err = q.s.headOf(ctx, fresh)
	var deadline time.Time
	for errors.Is(err, ErrUnfinished) && q.s.awaitWhole(ctx, &deadline) {
		if fresh, err = q.s.eng.Snapshot(ctx); err != nil {
			return err
		}
		q.snap.Close()
		q.snap, q.reader = fresh, fresh
		q.head, err = q.s.headOf(ctx, fresh)
	}
	if err != nil {
		return err
	}
	return q.checkCompacted(ctx)
}
