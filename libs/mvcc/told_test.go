package mvcc_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// stale is an engine whose recent states are whatever old ones it has kept, and not as new as RecentSnapshot promises:
// those of an engine that does not know what other processes have told this one.
type stale struct {
	engine.Store
	views []kept
	pick  func(n int) int
	used  int
}

type kept struct {
	engine.Snapshot
	since time.Time
}

func (kept) Close() {}

// keptMax is how old a state may be that is offered. A cluster ends it a second later.
const keptMax = 4 * time.Second

func (s *stale) RecentSnapshot(ctx context.Context) (engine.Snapshot, error) {
	s.used++
	if v := s.views[s.pick(len(s.views))]; openCluster == nil || time.Since(v.since) < keptMax {
		return v, nil
	}
	return s.Snapshot(ctx)
}

// keep keeps the present state.
func (s *stale) keep(t *testing.T) {
	t.Helper()
	v, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	s.views = append(s.views, kept{v, time.Now()})
}

// openStale opens two stores of a keyspace, of which the first is on states that are kept, and the engine of that one.
func openStale(t *testing.T, pick func(n int) int) (mine, other *mvcc.Store, e *stale) {
	inner := openEngine(t, fdb)
	e = &stale{Store: testengine.KeepOpen(inner), pick: pick}
	return open(t, e, mvcc.Options{}), open(t, testengine.KeepOpen(inner), mvcc.Options{}), e
}

// serializable are the kinds of serializable reads of key "k".
var serializable = map[string]mvcc.RangeRequest{
	"key":    {Key: []byte("k"), Serializable: true},
	"range":  {Key: []byte("k"), End: []byte("l"), Serializable: true},
	"count":  {Key: []byte("k"), End: []byte("l"), Serializable: true, CountOnly: true},
	"sorted": {Key: []byte("k"), End: []byte("l"), Serializable: true, Target: mvcc.SortByValue},
}

// TestSerializable: a serializable read may miss what others have done, and nothing that this process has answered.
func TestSerializable(t *testing.T) {
	read := func(t *testing.T, s *mvcc.Store, req mvcc.RangeRequest) int64 {
		t.Helper()
		kvs, info := collect(t, s, &req)
		if info.Count != 1 || !req.CountOnly && kvs[0].Mod > info.Rev {
			t.Errorf("%+v, %+v", kvs, info)
		}
		return info.Rev
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first := []mvcc.Compare{{Key: []byte("k"), Target: mvcc.CompareVersion, Result: mvcc.Equal, Int: 9}}
	// learn makes s answer rev, which other has just committed, or a later revision.
	for name, learn := range map[string]func(t *testing.T, s *mvcc.Store, rev int64) int64{
		"nothing": nil,
		"put":     func(t *testing.T, s *mvcc.Store, _ int64) int64 { return put(t, s, "k", "mine") },
		"delete": func(t *testing.T, s *mvcc.Store, _ int64) int64 {
			res, err := s.DeleteRange(t.Context(), &mvcc.DeleteRequest{Key: []byte("other")})
			must(t, err)
			return res.Rev
		},
		"failed compare": func(t *testing.T, s *mvcc.Store, _ int64) int64 {
			res, err := s.Txn(t.Context(), &mvcc.TxnRequest{Compares: first})
			must(t, err)
			return res.Rev
		},
		"read": func(t *testing.T, s *mvcc.Store, _ int64) int64 {
			return read(t, s, mvcc.RangeRequest{Key: []byte("k")})
		},
		"old read": func(t *testing.T, s *mvcc.Store, rev int64) int64 {
			return read(t, s, mvcc.RangeRequest{Key: []byte("k"), Rev: rev, Serializable: true})
		},
		"header": func(t *testing.T, s *mvcc.Store, _ int64) int64 {
			rev, err := s.Head(t.Context())
			must(t, err)
			return rev
		},
		"lease": func(t *testing.T, s *mvcc.Store, _ int64) int64 {
			_, err := s.LeaseGrant(t.Context(), 9, 60, nil)
			must(t, err)
			rev, err := s.Head(t.Context())
			must(t, err)
			return rev
		},
		"log": func(t *testing.T, s *mvcc.Store, rev int64) int64 {
			p, _, _, err := s.ReadPayloads(t.Context(), rev, 1, 1<<20)
			must(t, err)
			return p[0].Rev
		},
		"told": func(_ *testing.T, s *mvcc.Store, rev int64) int64 {
			s.Told(rev)
			s.Told(1)
			return rev
		},
	} {
		for kind, req := range serializable {
			t.Run(name+"/"+kind, func(t *testing.T) {
				s, other, e := openStale(t, func(n int) int { return n - 1 })
				old := put(t, s, "k", "old")
				put(t, s, "other", "")
				old = max(old, read(t, s, mvcc.RangeRequest{Key: []byte("k")}))
				e.keep(t)
				rev := put(t, other, "k", "theirs")
				if learn == nil {
					if got := read(t, s, req); got != old || e.used != 1 {
						t.Errorf("revision %d: the recent state is at %d", got, old)
					}
					return
				}
				owed := learn(t, s, rev)
				if got := read(t, s, req); got < owed || owed < rev {
					t.Errorf("revision %d after %d was answered", got, owed)
				}
				if e.used != 1 {
					t.Errorf("the recent state was asked for %d times", e.used)
				}
			})
		}
	}
}

// TestHeadersNeverGoBack: whatever a process is asked, and whatever recent states it has, the headers of its answers
// grow, and its reads show its own writes.
func TestHeadersNeverGoBack(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s, other, e := openStale(t, r.IntN)
	key := func() string { return fmt.Sprint("k", r.IntN(5)) }
	last, own := int64(0), map[string]int64{}
	kinds := make([]mvcc.RangeRequest, 0, len(serializable))
	for _, req := range serializable {
		kinds = append(kinds, req)
	}
	for i := range 2000 {
		rev := last
		switch r.IntN(6) {
		case 0:
			k := key()
			rev = put(t, s, k, fmt.Sprint(i))
			own[k] = rev
		case 1:
			put(t, other, key(), fmt.Sprint(i))
		case 2:
			e.keep(t)
		case 3:
			_, info := collect(t, s, &mvcc.RangeRequest{Key: []byte(key())})
			rev = info.Rev
		default:
			if len(e.views) == 0 {
				continue
			}
			req := kinds[r.IntN(len(kinds))]
			if req.End == nil {
				req.Key = []byte(key())
			}
			kvs, info := collect(t, s, &req)
			rev = info.Rev
			for _, kv := range kvs {
				if kv.Mod < own[string(kv.Key)] {
					t.Fatalf("step %d: %s at %d, though written here at %d", i, kv.Key, kv.Mod, own[string(kv.Key)])
				}
			}
		}
		if rev < last {
			t.Fatalf("step %d: revision %d after %d", i, rev, last)
		}
		last = rev
	}
}
