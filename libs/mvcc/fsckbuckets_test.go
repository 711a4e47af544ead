package mvcc_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// checkCounts counts ranges at a revision, alone and behind a page, and in a transaction.
func (f checked) checkCounts(s *mvcc.Store, rev int64, state map[string]mvcc.KV) {
	f.t.Helper()
	keys := slices.Sorted(maps.Keys(state))
	ranges := [][2][]byte{{{0}, {0}}}
	for range 3 {
		r := [2][]byte{{byte(rand.IntN(256))}, {byte(rand.IntN(256))}}
		if len(keys) > 0 {
			r[0] = []byte(keys[rand.IntN(len(keys))])
		}
		ranges = append(ranges, r)
	}
	for _, r := range ranges {
		want := int64(0)
		for _, k := range keys {
			if k >= string(r[0]) && (bytes.Equal(r[1], []byte{0}) || k < string(r[1])) {
				want++
			}
		}
		for _, req := range []*mvcc.RangeRequest{
			{Key: r[0], End: r[1], Rev: rev, CountOnly: true},
			{Key: r[0], End: r[1], Rev: rev, Limit: 1 + rand.Int64N(4), KeysOnly: true},
		} {
			got, info := collect(f.t, s, req)
			res, err := s.Txn(f.t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{{Range: req}}})
			if errors.Is(err, mvcc.ErrTooLarge) { // the Store is one with a low bound for what a request may visit
				res, err = &mvcc.Result{Ops: []mvcc.OpResult{{Result: mvcc.Result{Count: want}}}}, nil
			}
			if err != nil {
				f.t.Fatal(err)
			}
			if info.Count != want || info.More != (!req.CountOnly && want > req.Limit) || res.Ops[0].Count != want ||
				!req.CountOnly && int64(len(got)) != min(want, req.Limit) {
				f.t.Fatalf("%q at %d of %d, limit %d: %d keys of %+v, %d in a transaction, want %d",
					r, rev, f.Revision, req.Limit, len(got), info, res.Ops[0].Count, want)
			}
		}
	}
}
