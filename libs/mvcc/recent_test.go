package mvcc_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// counted counts the transactions that begin on a recent state.
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

// openRecent opens a store on an engine that begins on recent states. It lives as long as the test.
func openRecent(t *testing.T, inner engine.Store, o mvcc.Options) (*mvcc.Store, *counted) {
	t.Helper()
	c := &counted{Store: faults.New(testengine.KeepOpen(inner), faults.Options{Recent: true})}
	o.Lanes = 1
	s := open(t, c, o)
	t.Cleanup(func() { c.Store.Close() }) // before the store's own: nothing of it is left then
	return s, c
}

// TestOutOfDate: a store whose recent state lacks another store's write answers as if it had asked the database.
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
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{
				Compares: equal(mvcc.CompareMod, rev, ""), Success: putOf("v"), Failure: []mvcc.Op{get},
			})
			if err != nil || !res.Succeeded || res.Rev <= rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"compare does not hold": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{
				Compares: equal(mvcc.CompareValue, 0, "mine"), Success: putOf("v"), Failure: []mvcc.Op{get},
			})
			if err != nil || res.Succeeded || res.Rev < rev || string(res.Ops[0].KVs[0].Value) != "theirs" {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"compare fails either way": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{
				Compares: equal(mvcc.CompareValue, 0, "nobody's"), Success: putOf("v"),
			})
			if err != nil || res.Succeeded || res.Rev < rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read before a write": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(),
				&mvcc.TxnRequest{Success: []mvcc.Op{get, {Put: &mvcc.PutRequest{Key: fresh}}}})
			if err != nil || res.Ops[0].Rev < rev || res.Ops[0].KVs[0].Mod != rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read of another key before a write": func(t *testing.T, s *mvcc.Store, rev int64) {
			other := mvcc.Op{Range: &mvcc.RangeRequest{Key: []byte("nobody's")}}
			res, err := s.Txn(t.Context(),
				&mvcc.TxnRequest{Success: []mvcc.Op{other, {Put: &mvcc.PutRequest{Key: fresh}}}})
			if err != nil || res.Ops[0].Rev < rev || res.Ops[0].Count != 0 {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read after a write": func(t *testing.T, s *mvcc.Store, rev int64) {
			res, err := s.Txn(t.Context(),
				&mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: fresh}}, get}})
			if err != nil || res.Ops[1].Rev <= rev || res.Ops[1].KVs[0].Mod != rev {
				t.Errorf("%+v, %v", res, err)
			}
		},
		"read at the new revision": func(t *testing.T, s *mvcc.Store, rev int64) {
			at := mvcc.Op{Range: &mvcc.RangeRequest{Key: key, Rev: rev}}
			res, err := s.Txn(t.Context(),
				&mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: fresh}}, at}})
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
			inner := openEngine(t, fdb)
			a, mine := openRecent(t, inner, mvcc.Options{})
			b := open(t, testengine.KeepOpen(inner), mvcc.Options{Lanes: 1})
			put(t, a, "k", "mine")
			begun := mine.recent.Load()
			if _, err := b.LeaseGrant(t.Context(), 7, 60, nil); err != nil {
				t.Fatal(err)
			}
			put(t, b, "k2", "theirs")
			run(t, a, put(t, b, "k", "theirs"))
			if mine.recent.Load() == begun {
				t.Error("the recent state was not used")
			}
		})
	}
}

// TestOutOfDateTooLarge: a delete that was too large on the recent state, and no longer is since another store has
// deleted most of it, is not refused.
func TestOutOfDateTooLarge(t *testing.T) {
	inner := openEngine(t, fdb)
	// Nothing goes on in the background: a group that it stopped would make the next ones ask for a version.
	a, mine := openRecent(t, inner, mvcc.Options{NoRemoval: true})
	b := open(t, testengine.KeepOpen(inner), mvcc.Options{Lanes: 1, NoRemoval: true})
	value := strings.Repeat("v", 95_000)
	for i := range 120 { // 11 MB: no transaction deletes them all
		put(t, b, fmt.Sprintf("b%03d", i), value)
	}
	put(t, a, "a", "mine")
	begun := mine.recent.Load()
	for _, r := range [][2]string{{"b000", "b050"}, {"b050", "b100"}} {
		if _, err := b.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte(r[0]), End: []byte(r[1])}); err != nil {
			t.Fatal(err)
		}
	}
	res, err := a.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("b"), End: []byte("c")})
	if err != nil || res.Deleted != 20 {
		t.Errorf("%+v, %v", res, err)
	}
	if mine.recent.Load() == begun {
		t.Error("the recent state was not used")
	}
}

// TestOutOfDateKeyspace: the first write to a keyspace that another store has created after the recent state.
func TestOutOfDateKeyspace(t *testing.T) {
	inner := openEngine(t, fdb)
	first, mine := openRecent(t, inner, mvcc.Options{Prefix: []byte("1/")})
	put(t, first, "k", "v")
	open(t, testengine.KeepOpen(inner), mvcc.Options{Lanes: 1, Prefix: []byte("2/")}) // creates it
	a := open(t, mine, mvcc.Options{Lanes: 1, Prefix: []byte("2/")})
	begun := mine.recent.Load()
	if _, err := a.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Error(err)
	}
	if mine.recent.Load() == begun {
		t.Error("the recent state was not used")
	}
}

// TestNestedProves: a transaction with one nested in it that makes a revision is proved by its commit like any other.
func TestNestedProves(t *testing.T) {
	a, _ := openRecent(t, openEngine(t, fdb), mvcc.Options{})
	put(t, a, "k", "mine")
	nested := mvcc.Op{Txn: &mvcc.TxnRequest{Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("n")}}}}}
	if _, err := a.Txn(t.Context(), &mvcc.TxnRequest{Success: []mvcc.Op{nested}}); err != nil {
		t.Fatal(err)
	}
	u := a.Usage()
	if recent, outdated := u.Recent.Load(), u.Outdated.Load(); recent != 2 || outdated != 0 {
		t.Errorf("%d groups began on a recent state, %d of them were evaluated again", recent, outdated)
	}
}

// TestOutOfDateGroups: requests of all outcomes in one group, on a state that lacks another store's write.
func TestOutOfDateGroups(t *testing.T) {
	inner := openEngine(t, fdb)
	a, mine := openRecent(t, inner, mvcc.Options{})
	b := open(t, testengine.KeepOpen(inner), mvcc.Options{Lanes: 1})
	fails := []mvcc.Compare{{Key: []byte("k"), Target: mvcc.CompareValue, Value: []byte("nobody's")}}
	var used int64
	for range 50 {
		put(t, a, "k", "mine")
		rev := put(t, b, "other", "theirs")
		begun := mine.recent.Load()
		var wg sync.WaitGroup
		run := func(what string, f func() (*mvcc.Result, error)) {
			wg.Go(func() {
				if res, err := f(); err != nil || res.Rev < rev {
					t.Errorf("%s: %+v after %d, %v", what, res, rev, err)
				}
			})
		}
		for i := range 4 {
			key := []byte(fmt.Sprint("k", i))
			run("put", func() (*mvcc.Result, error) { return a.Put(t.Context(), &mvcc.PutRequest{Key: key}) })
			run("failing compare", func() (*mvcc.Result, error) {
				return a.Txn(t.Context(),
					&mvcc.TxnRequest{Compares: fails, Success: []mvcc.Op{{Put: &mvcc.PutRequest{Key: key}}}})
			})
			run("delete of nothing", func() (*mvcc.Result, error) {
				return a.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("nobody's")})
			})
		}
		wg.Wait()
		used += mine.recent.Load() - begun
	}
	if used == 0 {
		t.Error("no recent state was used")
	}
}
