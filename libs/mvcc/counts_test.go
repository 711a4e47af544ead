package mvcc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// countSeen is what a transaction has counted.
type countSeen struct {
	rev, n   int64
	key, end []byte
}

// counter makes requests that create and delete keys, and counts them.
type counter struct {
	t       *testing.T
	s       *mvcc.Store
	r       *rand.Rand
	creates int // of 20 requests
	seen    []countSeen
}

func (c *counter) key() []byte {
	if c.r.IntN(40) == 0 {
		return keyPool[c.r.IntN(len(keyPool))]
	}
	return fmt.Appendf(nil, "k%03d", c.r.IntN(300))
}

func (c *counter) end() []byte {
	if c.r.IntN(4) == 0 {
		return []byte{0}
	}
	return c.key()
}

// fine says that a request did what it was asked to.
func (c *counter) fine(err error) bool {
	for _, may := range []error{
		mvcc.ErrUnavailable, mvcc.ErrLeaseNotFound, mvcc.ErrLeaseExists, mvcc.ErrCompacted, mvcc.ErrTooManyRequests,
	} {
		if errors.Is(err, may) {
			return false
		}
	}
	if err != nil {
		c.t.Error(err)
	}
	return err == nil
}

func (c *counter) step(ctx context.Context) {
	switch n := c.r.IntN(20); {
	case n < c.creates:
		p := &mvcc.PutRequest{Key: c.key(), Value: []byte("some value"), Lease: max(0, int64(c.r.IntN(10)-7))}
		_, err := c.s.Put(ctx, p)
		c.fine(err)
	case n < 14:
		_, err := c.s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: c.key()})
		c.fine(err)
	case n < 16:
		c.count(ctx)
	case n == 16:
		c.txn(ctx)
	case n == 17 && c.r.IntN(3) == 0:
		key := c.key()
		d := &mvcc.DeleteRequest{Key: key, End: rangeEnd(key, c.r.IntN(3))}
		_, err := c.s.DeleteRange(ctx, d)
		c.fine(err)
	case n == 18:
		id := int64(c.r.IntN(2) + 1)
		if _, err := c.s.LeaseRevoke(ctx, id, nil); c.fine(err) {
			return
		}
		_, err := c.s.LeaseGrant(ctx, id, 60, nil)
		c.fine(err)
	case n == 19 && c.r.IntN(8) == 0:
		head, err := c.s.Head(ctx)
		if err == nil {
			_, err = c.s.Compact(ctx, head-int64(c.r.IntN(200)), false)
		}
		c.fine(err)
	}
}

// count holds a count, and the count of a list's first page, against the list at the same revision.
func (c *counter) count(ctx context.Context) {
	r := mvcc.RangeRequest{Key: c.key(), End: c.end(), CountOnly: true}
	none := func(*mvcc.KV) error { return nil }
	info, err := c.s.Range(ctx, &r, none)
	if !c.fine(err) {
		return
	}
	n := int64(0)
	r.CountOnly, r.Rev = false, info.Rev
	_, err = c.s.Range(ctx, &r, func(*mvcc.KV) error { n++; return nil })
	if !c.fine(err) {
		return
	}
	r.Limit = 2
	page, err := c.s.Range(ctx, &r, none)
	if c.fine(err) && (info.Count != n || page.Count != n) {
		c.t.Errorf("%q to %q at %d: count %d, of a page %d, the list has %d", r.Key, r.End, r.Rev, info.Count,
			page.Count, n)
	}
}

// txn counts behind a change in a transaction.
func (c *counter) txn(ctx context.Context) {
	key, end := c.key(), c.end()
	gone, count := &mvcc.DeleteRequest{Key: c.key()}, &mvcc.RangeRequest{Key: key, End: end, CountOnly: true}
	if c.r.IntN(2) == 0 {
		count.CountOnly, count.Limit = false, 2
	}
	put := &mvcc.PutRequest{Key: c.key()}
	if string(put.Key) == string(gone.Key) {
		return
	}
	res, err := c.s.Txn(ctx, &mvcc.TxnRequest{Success: []mvcc.Op{{Delete: gone}, {Put: put}, {Range: count}}})
	if c.fine(err) {
		c.seen = append(c.seen, countSeen{res.Rev, res.Ops[2].Count, key, end})
	}
}

// TestCounts: whatever happens to the groups, to the steps that keep the buckets, and to the processes, the counters
// are the number of keys; a count at any revision that can be read is what a list at it has.
func TestCounts(t *testing.T) {
	sparse := pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true}
	for _, v := range []variant{
		{"dense", pebble.Options{}, mvcc.Options{}},
		{"dense, heavy", pebble.Options{}, mvcc.Options{LightRows: 1, Prefix: []byte("ks\x00")}},
		{"dense, 3 lanes", pebble.Options{}, mvcc.Options{Lanes: 3}},
		{"fdb, 2 pods", sparse, mvcc.Options{Lanes: 4, Shift: 3, Prefix: []byte{0, 'p'}}},
		{"dense, activated", pebble.Options{}, mvcc.Options{Features: mvcc.FeatureValues | mvcc.FeatureSizes}},
		{"fdb, 2 pods, activated", sparse, mvcc.Options{Lanes: 3, NoFeatures: true}},
	} {
		if testing.Short() && v.name != "dense, 3 lanes" && v.name != "fdb, 2 pods, activated" {
			continue // the race detector needs each kind of engine and the step between them once
		}
		if openCluster != nil && !v.engine.NotPipelined {
			continue // it would run in memory
		}
		t.Run(v.name, func(t *testing.T) { runCounts(t, v) })
	}
}

func runCounts(t *testing.T, v variant) {
	seed := seed(t)
	v.engine.Seed, v.store.CountKeys = seed, 8
	bad := badDays(seed)
	bad.Recent = v.engine.NotPipelined // groups of pods begin on states that may be outdated
	e := faults.New(testengine.KeepOpen(openEngine(t, v.engine)), bad)
	defer e.Close()
	pods := 1
	if !e.Limits().Dense {
		pods, v.store.NoRemoval = 2, true
	}
	most, activates := 0, v.store.NoFeatures || v.store.Features != 0
	steps := 150
	if openCluster != nil { // each takes some round trips of milliseconds
		steps = 75
	}
	for run, creates := range []int{13, 9, 2} {
		stores := make([]*mvcc.Store, pods)
		for i := range stores {
			stores[i] = openQuietly(t, e, v.store)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var keepers, clients sync.WaitGroup
		for i, s := range stores {
			keepers.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(1000+i)))
				for ctx.Err() == nil {
					step := s.StepBuckets
					if r.IntN(2) == 0 {
						step = s.BeginSplits
					}
					_, err := step(ctx)
					if err != nil && ctx.Err() == nil && !errors.Is(err, mvcc.ErrUnavailable) {
						t.Error(err)
					}
				}
			})
		}
		all := make([]*counter, 6)
		for i := range all {
			c := &counter{t: t, s: stores[i%pods], r: rand.New(rand.NewPCG(seed, uint64(run*100+i))), creates: creates}
			all[i] = c
			clients.Go(func() {
				for n := range steps {
					if c.step(t.Context()); activates && run == 1 && i == 0 && n == 50 {
						activateCounts(t, c.s)
					}
				}
			})
		}
		clients.Wait()
		cancel()
		keepers.Wait()
		e.Pause(true)
		s := stores[0]
		check(t, e, s, v.store.Prefix, false).checkReads(s, 7)
		most = max(most, s.Buckets())
		keep(t, s)
		check(t, e, s, v.store.Prefix, false).checkReads(s, 7)
		most = max(most, s.Buckets())
		for _, c := range all {
			c.hold()
		}
		t.Logf("%d buckets, %d conflicts", s.Buckets(), s.Usage().Conflicts.Load())
		if run == 2 {
			_, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte{0}, End: []byte{0}})
			if keep(t, s); err != nil || most < 10 || s.Buckets() != 1 {
				t.Errorf("%d buckets of at most %d in an empty keyspace, %v", s.Buckets(), most, err)
			}
		}
		for _, s := range stores {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		e.Pause(false)
	}
}

// activateCounts begins the count index of a keyspace that has keys.
func activateCounts(t *testing.T, s *mvcc.Store) {
	err := mvcc.ErrUnavailable
	for errors.Is(err, mvcc.ErrUnavailable) {
		err = s.Activate(t.Context(), mvcc.FeatureCounts|mvcc.FeatureFences)
	}
	if err != nil {
		t.Error(err)
	}
}

// keep brings the buckets to their sizes.
func keep(t testing.TB, s *mvcc.Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if more, err = s.StepBuckets(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// hold holds what transactions have counted against lists.
func (c *counter) hold() {
	for _, s := range c.seen {
		n := int64(0)
		r := &mvcc.RangeRequest{Key: s.key, End: s.end, Rev: s.rev}
		_, err := c.s.Range(c.t.Context(), r, func(*mvcc.KV) error { n++; return nil })
		if c.fine(err) && n != s.n {
			c.t.Errorf("a transaction at %d counted %d keys from %q to %q, a list has %d", s.rev, s.n, s.key, s.end, n)
		}
	}
}

// rangeEnd is the end of a range of some keys from one on.
func rangeEnd(key []byte, n int) []byte {
	end := append([]byte{}, key...)
	end[len(end)-1] += byte(n)
	return end
}
