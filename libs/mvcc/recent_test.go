package mvcc_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// counted counts the transactions that begin on a state at hand.
type counted struct {
	engine.Store
	recent atomic.Int64
}

func (c *counted) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	t, ok, err := c.Store.(engine.RecentBeginner).BeginRecent(ctx)
	if ok {
		c.recent.Add(1)
	}
	return t, ok, err
}

// shared is an engine of several stores.
type shared struct{ engine.Store }

func (shared) Close() error { return nil }

// TestOutOfDate: a store whose state at hand lacks another's write answers as if it had asked.
func TestOutOfDate(t *testing.T) {
	key, fresh := []byte("k"), []byte("fresh")
	equal := func(target mvcc.CompareTarget, n int64, value string) []mvcc.Compare {
		return []mvcc.Compare{{Key: key, Target: target, Result: mvcc.Equal, Int: n, Value: []byte(value)}}
	}
	putOf := func(value string) []mvcc.Op {
		return []mvcc.Op{{Put: &mvcc.PutRequest{Key: key, Value: []byte(value)}}}
	}
	get := mvcc.Op{Range: &mvcc.RangeRequest{Key: key}}
	// run is called when the other store has just put "theirs" with revision rev, over "mine" from this one.
	for name, run := range map[string]func(t *testing.T, s *mvcc.Store, rev int64){
		"put with prev_kv": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Put(t.Context(), &mvcc.PutRequest{Key: key, Value: []byte("v"), PrevKV: true})
			if err != nil || res.Rev <= rev || len(res.Prev) != 1 || res.Prev[0].Mod != rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"compare holds": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Compares: equal(mvcc.CompareMod, rev, ""), Success: putOf("v"), Failure: []mvcc.Op{get}})
			if err != nil || !res.Succeeded || res.Rev <= rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"compare does not hold": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Compares: equal(mvcc.CompareValue, 0, "mine"), Success: putOf("v"), Failure: []mvcc.Op{get}})
			if err != nil || res.Succeeded || res.Rev < rev || string(res.Ops[0].KVs[0].Value) != "theirs" {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"compare fails either way": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Compares: equal(mvcc.CompareValue, 0, "nobody's"), Success: putOf("v")})
			if err != nil || res.Succeeded || res.Rev < rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read before a write": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{get, {Put: &mvcc.PutRequest{Key: fresh}}}})
			if err != nil || res.Ops[0].Rev < rev || res.Ops[0].KVs[0].Mod != rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read of another key before a write": func(t *testing.T, s *mvcc.Store, rev int64) {
			other := mvcc.Op{Range: &mvcc.RangeRequest{Key: []byte("nobody's")}}
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{other, {Put: &mvcc.PutRequest{Key: fresh}}}})
			if err != nil || res.Ops[0].Rev < rev || res.Ops[0].Count != 0 {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read after a write": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: fresh}}, get}})
			if err != nil || res.Ops[1].Rev <= rev || res.Ops[1].KVs[0].Mod != rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read at the new revision": func(t *testing.T, s *mvcc.Store, rev int64) {
			at := mvcc.Op{Range: &mvcc.RangeRequest{Key: key, Rev: rev}}
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: fresh}}, at}})
			if err != nil || res.Ops[1].KVs[0].Mod != rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"delete of nothing": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: fresh})
			if err != nil || res.Deleted != 0 || res.Rev < rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"delete of a range": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: key, End: []byte("l"), PrevKV: true})
			if err != nil || res.Deleted != 2 || res.Prev[0].Mod != rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"lease": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Put(t.Context(), &mvcc.PutRequest{Key: fresh, Lease: 7})
			if err != nil || res.Rev <= rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"keep the value": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k2"), IgnoreValue: true, Lease: 7})
			if err != nil || res.Rev <= rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inner := openEngine(t, pebble.Options{FDBLimits: true, Sparse: true, NotPipelined: true})
			mine := &counted{Store: faults.New(shared{inner}, faults.Options{Recent: true})}
			a, b := open(t, mine, mvcc.Options{Lanes: 1}), open(t, shared{inner}, mvcc.Options{Lanes: 1})
			t.Cleanup(func() { mine.Store.Close() }) // runs before a's: nothing of it is left then
			put(t, a, "k", "mine")
			begun := mine.recent.Load()
			if _, err := b.LeaseGrant(t.Context(), 7, 60, nil); err != nil {
				t.Fatal(err)
			}
			put(t, b, "k2", "theirs")
			run(t, a, put(t, b, "k", "theirs"))
			if mine.recent.Load() == begun {
				t.Error("the state at hand was not used")
			}
		})
	}
}
