package mvcc_test

import (
	"testing"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestGuessedRevision: a compare with a revision between two writes, such as the one after the last, does not hold for
// a key that an earlier request of the same group has put.
func TestGuessedRevision(t *testing.T) {
	const shift = 5
	g, e := newGate(openEngine(t, fdb))
	s := open(t, e, mvcc.Options{Lanes: 1, Shift: shift})
	write := []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("written")}}}
	never := mvcc.Compare{Key: []byte("nobody's"), Target: mvcc.CompareVersion, Result: mvcc.Greater}
	g.holder = func() { // makes no revision
		_, err := s.Txn(t.Context(), &mvcc.TxnRequest{Compares: []mvcc.Compare{never}, Success: write})
		if err != nil {
			t.Error(err)
		}
	}
	for guess := int64(1); guess < 1<<shift; guess++ {
		head := put(t, s, "other", "")
		var rev int64
		requests := []func(){func() { rev = put(t, s, "k", "") }}
		for _, q := range []struct {
			result mvcc.CompareResult
			holds  bool
		}{{mvcc.Equal, false}, {mvcc.NotEqual, true}, {mvcc.Greater, true}, {mvcc.Less, false}} {
			requests = append(requests, func() {
				res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Compares: []mvcc.Compare{{
					Key: []byte("k"), Target: mvcc.CompareMod, Result: q.result, Int: head + guess,
				}}, Success: write})
				if err != nil || res.Succeeded != q.holds {
					t.Errorf("compare %d with the revision after %d by %d: %+v, %v", q.result, head, guess, res, err)
				}
			})
		}
		g.group(t, s, requests...)
		if rev <= head+guess {
			t.Fatalf("the write has revision %d, after %d", rev, head)
		}
	}
}
