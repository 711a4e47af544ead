package mvcc_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

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
	for ; step(func() (bool, error) { return s.BeginSplits(t.Context()) }); cuts++ {
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
