package mvcc_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// A limit that cannot be reached is no limit, also where one more key than the limit is fetched: clients send MaxInt64.
func TestLargestLimit(t *testing.T) {
	s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	for i := range 3 {
		put(t, s, fmt.Sprint("k", i), "v")
	}
	for target := mvcc.SortByKey; target <= mvcc.SortByValue; target++ {
		r := &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Limit: math.MaxInt64, Target: target}
		if kvs, info := collect(t, s, r); len(kvs) != 3 || info.Count != 3 || info.More {
			t.Errorf("target %d: %d keys, %+v", target, len(kvs), info)
		}
		for _, ops := range [][]mvcc.Op{{{Range: r}}, {{Range: r}, {Put: &mvcc.PutRequest{Key: []byte("k0")}}}} {
			res, err := s.Txn(context.Background(), &mvcc.TxnRequest{Success: ops})
			if err != nil {
				t.Fatal(err)
			}
			if got := res.Ops[0]; len(got.KVs) != 3 || got.Count != 3 || got.More {
				t.Errorf("target %d in a transaction: %+v", target, got)
			}
		}
	}
}

// A list that has visited its page and then cannot count the rest must fail rather than visit the page again.
func TestRangeVisitsOnce(t *testing.T) {
	e := faults.New(openEngine(t, pebble.Options{}), faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
		if c.Op == faults.Scan && bytes.HasSuffix(c.Key, []byte("k1\x00")) { // behind the page
			return faults.TooOld, true
		}
		return faults.None, true
	}})
	s := open(t, e, mvcc.Options{})
	for i := range 5 {
		put(t, s, fmt.Sprint("k", i), "v")
	}
	var visited []string
	_, err := s.Range(context.Background(), &mvcc.RangeRequest{Key: []byte("k"), End: []byte("l"), Limit: 2},
		func(kv *mvcc.KV) error {
			visited = append(visited, string(kv.Key))
			return nil
		})
	if err == nil || fmt.Sprint(visited) != "[k0 k1]" {
		t.Fatalf("visited %v, error %v", visited, err)
	}
}
