package mvcc_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// checkCounts counts ranges at a revision, alone and behind a page, and in a transaction.
func (c checked) checkCounts(s *mvcc.Store, rev int64, state []mvcc.KV) error {
	ranges := [][2][]byte{{{0}, {0}}}
	for range 3 {
		r := [2][]byte{{byte(rand.IntN(256))}, {byte(rand.IntN(256))}}
		if len(state) > 0 {
			r[0] = state[rand.IntN(len(state))].Key
		}
		ranges = append(ranges, r)
	}
	for _, r := range ranges {
		want := int64(0)
		for i := range state {
			k, toEnd := state[i].Key, bytes.Equal(r[1], []byte{0})
			if bytes.Compare(k, r[0]) >= 0 && (toEnd || bytes.Compare(k, r[1]) < 0) {
				want++
			}
		}
		for _, req := range []*mvcc.RangeRequest{
			{Key: r[0], End: r[1], Rev: rev, CountOnly: true},
			{Key: r[0], End: r[1], Rev: rev, Limit: 1 + rand.Int64N(4), KeysOnly: true},
		} {
			got, info, err := read(s, req)
			if err != nil {
				return fmt.Errorf("%q at %d: %w", r, rev, err)
			}
			res, err := s.Txn(c.t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{{Range: req}}})
			if errors.Is(err, mvcc.ErrTooLarge) { // the Store is one with a low bound for what a request may visit
				res, err = &mvcc.Result{Ops: []mvcc.OpResult{{Result: mvcc.Result{Count: want}}}}, nil
			}
			if err != nil {
				return fmt.Errorf("%q at %d in a transaction: %w", r, rev, err)
			}
			if info.Count != want || info.More != (!req.CountOnly && want > req.Limit) || res.Ops[0].Count != want ||
				!req.CountOnly && int64(len(got)) != min(want, req.Limit) {
				return fmt.Errorf("%q at %d of %d, limit %d: %d keys of %+v, %d in a transaction, want %d",
					r, rev, c.Revision, req.Limit, len(got), info, res.Ops[0].Count, want)
			}
		}
	}
	return nil
}
