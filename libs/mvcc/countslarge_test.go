package mvcc_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// fillKeys makes n keys, some in each request.
func fillKeys(t *testing.T, s *mvcc.Store, n int) {
	t.Helper()
	for i := 0; i < n; {
		all := &mvcc.TxnRequest{}
		for ; len(all.Success) < 100 && i < n; i++ {
			all.Success = append(all.Success, mvcc.Op{Put: &mvcc.PutRequest{Key: fmt.Appendf(nil, "k%05d", i)}})
		}
		if _, err := s.Txn(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCountsOfLargeBuckets: counts of any range are right before a bucket with many keys is split, and after each step
// of the split.
func TestCountsOfLargeBuckets(t *testing.T) {
	const keys = 500
	rnd := rand.New(rand.NewPCG(seed(t), 0))
	s := open(t, openEngine(t, fdb), mvcc.Options{CountKeys: 8, NoRemoval: true})
	fillKeys(t, s, keys)
	old, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	gone := &mvcc.DeleteRequest{Key: []byte("k00100"), End: []byte("k00150")}
	if _, err := s.DeleteRange(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	bound := func() []byte {
		if rnd.IntN(8) == 0 {
			return []byte{0}
		}
		return fmt.Appendf(nil, "k%05d", rnd.IntN(keys+10))
	}
	for step, more := 0, true; more; step++ {
		for range 40 {
			key, end := bound(), bound()
			all := string(end) == "\x00"
			if !all && bytes.Compare(key, end) > 0 {
				key, end = end, key
			}
			for _, rev := range []int64{0, old} {
				want := int64(0)
				for i := range keys {
					k := fmt.Appendf(nil, "k%05d", i)
					there := rev > 0 || bytes.Compare(k, gone.Key) < 0 || bytes.Compare(k, gone.End) >= 0
					if there && bytes.Compare(k, key) >= 0 && (all || bytes.Compare(k, end) < 0) {
						want++
					}
				}
				r := mvcc.RangeRequest{Key: key, End: end, Rev: rev, CountOnly: true}
				info, err := s.Range(t.Context(), &r, func(*mvcc.KV) error { return nil })
				if err != nil || info.Count != want {
					t.Fatalf("step %d, %q to %q at %d: %d, %v, want %d", step, key, end, rev, info.Count, err, want)
				}
				if rev > 0 {
					continue
				}
				r.CountOnly, r.Limit = true, 0
				res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{{Range: &r}}})
				if err != nil || res.Ops[0].Count != want {
					t.Fatalf("step %d, %q to %q in a transaction: %+v, %v, want %d", step, key, end, res, err, want)
				}
			}
		}
		if more, err = s.StepBuckets(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s.Buckets() < keys/8 {
		t.Errorf("%d buckets", s.Buckets())
	}
}

// TestCutLargeBucket: however large a bucket is, all of it is cut before the seal, of which it needs only one.
func TestCutLargeBucket(t *testing.T) {
	const keys, bucket = 3000, 8
	e := openEngine(t, fdb)
	s := open(t, e, mvcc.Options{CountKeys: bucket, NoRemoval: true})
	fillKeys(t, s, keys)
	step := func(f func() (bool, error)) bool {
		more, err := f()
		if err != nil {
			t.Fatal(err)
		}
		return more
	}
	cuts := 0
	for ; step(func() (bool, error) { return s.GoOnSplitting(t.Context()) }); cuts++ {
		if cuts > keys {
			t.Fatal("it never ends")
		}
	}
	cut := s.Buckets()
	if cuts < 2 || cut < keys/bucket {
		t.Errorf("%d buckets after %d steps", cut, cuts)
	}
	check(t, e, s, nil, false).checkReads(s, 1)
	keep(t, s)
	if s.Buckets() != cut {
		t.Errorf("%d buckets, and %d before the seal", s.Buckets(), cut)
	}
	check(t, e, s, nil, false).checkReads(s, 1)
}

// TestSplitsThatWait: once splits have gone on for long enough without an end, those that have been begun come first.
func TestSplitsThatWait(t *testing.T) {
	s := open(t, openEngine(t, fdb), mvcc.Options{CountKeys: 8, NoRemoval: true})
	fillKeys(t, s, 32)
	keep(t, s)
	grow := func(after string) {
		for i := range 16 {
			put(t, s, fmt.Sprintf("%s/%02d", after, i), "")
		}
	}
	began := func(want bool, begin func(context.Context) (bool, error)) {
		t.Helper()
		if more, err := begin(t.Context()); err != nil || more != want {
			t.Errorf("a split was begun: %t, %v, want %t", more, err, want)
		}
	}
	grow("k00001")
	began(true, s.BeginSplits)
	grow("k00030")
	began(false, s.GoOnSplitting)
	began(true, s.BeginSplits)
	keep(t, s)
	began(false, s.GoOnSplitting)
}

// TestSealsWhileFilled: a fill in no order, in which buckets become too large all the time, does not put off the end of
// the splits that have been begun for as long as it lasts.
func TestSealsWhileFilled(t *testing.T) {
	seed := seed(t)
	synctest.Test(t, func(t *testing.T) {
		const length, keys, every = 10 * time.Second, 5, 20 * time.Millisecond
		rnd := rand.New(rand.NewPCG(seed, 0))
		s := open(t, openFar(t, seed, faults.Latency{}), mvcc.Options{CountKeys: 8, NoRemoval: true})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.RemoveCompacted(ctx) })
		seals, last := 0, s.Sealed()
		for begin := time.Now(); time.Since(begin) < length; time.Sleep(every) {
			all := &mvcc.TxnRequest{}
			for range keys {
				p := &mvcc.PutRequest{Key: fmt.Appendf(nil, "k%016x", rnd.Uint64())}
				all.Success = append(all.Success, mvcc.Op{Put: p})
			}
			if _, err := s.Txn(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			if now := s.Sealed(); now != last {
				seals, last = seals+1, now
			}
		}
		cancel()
		wg.Wait()
		if seals < int(length/(3*time.Second)) || s.Buckets() < 100 {
			t.Errorf("%d seals in %v, %d buckets", seals, length, s.Buckets())
		}
		t.Logf("%d seals, %d buckets", seals, s.Buckets())
	})
}
