package mvcc_test

import (
	order "cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// TestCloseInFlight: every request is answered when the Store closes under it; those acknowledged are there
// afterwards, those refused are not.
func TestCloseInFlight(t *testing.T) {
	for _, v := range faultVariants() {
		t.Run(v.name, func(t *testing.T) {
			v.engine.Seed = seed(t)
			e := openEngine(t, v.engine)
			s := open(t, e, v.store)
			var acked, refused sync.Map
			var n atomic.Int64
			under := make(chan struct{})
			var wg sync.WaitGroup
			for c := range 8 {
				wg.Go(func() {
					for i := 0; ; i++ {
						key := fmt.Sprintf("%d-%d", c, i)
						res, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte(key), Value: []byte(key)})
						if n.Add(1) == 40 {
							close(under)
						}
						if errors.Is(err, mvcc.ErrClosed) {
							refused.Store(key, true)
							return
						} else if err != nil {
							t.Error(err)
							return
						}
						acked.Store(key, res.Rev)
					}
				})
			}
			<-under
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			s = open(t, e, v.store)
			have := map[any]int64{}
			for _, kv := range everything(t, s) {
				have[string(kv.Key)] = kv.Mod
			}
			acked.Range(func(key, rev any) bool {
				if have[key] != rev {
					t.Errorf("%v was acknowledged at %v, is at %d", key, rev, have[key])
				}
				delete(have, key)
				return true
			})
			refused.Range(func(key, _ any) bool {
				if _, ok := have[key]; ok {
					t.Errorf("%v was refused and is there", key)
				}
				return true
			})
			if len(have) > 0 {
				t.Errorf("nobody has put %v", have)
			}
			check(t, e, s, v.store.Prefix, false)
		})
	}
}

// TestCloseDuringCompaction: a physical compaction that cannot end before the Store closes is answered.
func TestCloseDuringCompaction(t *testing.T) {
	var stuck atomic.Pointer[mvcc.Store]
	met := make(chan struct{})
	var once sync.Once
	e := faults.New(openEngine(t, pebble.Options{}), faults.Options{Script: func(c faults.Call) (faults.Fault, bool) {
		if s := stuck.Load(); s != nil && c.Op == faults.Scan && len(c.Key) > 0 && c.Key[0] == 'l' {
			if s.CompactRevision() == 8 { // before, it is the hash that is read
				once.Do(func() { close(met) })
			}
			return faults.Unavailable, true
		}
		return faults.None, true
	}})
	s := open(t, e, mvcc.Options{})
	for i := range 10 {
		put(t, s, "k", fmt.Sprint(i))
	}
	stuck.Store(s)
	answer := make(chan error, 1)
	go func() {
		_, err := s.Compact(context.Background(), 8, true)
		answer <- err
	}()
	<-met
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; !errors.Is(err, mvcc.ErrClosed) {
		t.Fatal(err)
	}
	stuck.Store(nil)
	s = open(t, e, mvcc.Options{}) // goes on where it was
	waitFor(t, func() bool { return removedUpTo(t, e, nil) == 8 })
	check(t, e, s, nil, true).checkReads(s, 1)
}

// TestTwoStores runs two pods on one keyspace, as on FoundationDB: their writes conflict and wait for each other, and
// each has the whole feed in order.
func TestTwoStores(t *testing.T) {
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprint("same keys ", same), func(t *testing.T) {
			seed := seed(t)
			engineOptions := fdb
			engineOptions.Seed = seed
			e := faults.New(openEngine(t, engineOptions), faults.Options{
				Seed: seed, Conflict: .05, UnknownLost: .05, UnknownCommitted: .05,
			})
			var feeds [2]feed
			var stores [2]*mvcc.Store
			for i := range stores {
				e.Pause(true)
				stores[i] = openFed(t, e, mvcc.Options{Lanes: 2, Shift: 4}, &feeds[i])
				e.Pause(false)
			}
			if stores[0].Meta() != stores[1].Meta() {
				t.Fatal("two keyspaces")
			}
			const clients, increments = 6, 15
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					for i := range increments {
						key := fmt.Appendf(nil, "counter%d", c)
						if same {
							key = fmt.Appendf(nil, "counter%d", i%2)
						}
						s := stores[c%2]
						increment(t, s, key)
						if info, err := stores[(c+1)%2].Range(t.Context(), &mvcc.RangeRequest{Key: key},
							func(kv *mvcc.KV) error {
								if !same && len(kv.Value) != i+1 {
									t.Errorf("the other pod reads %d increments of %d", len(kv.Value), i+1)
								}
								return nil
							}); err != nil || info.Count != 1 {
							t.Errorf("%+v, %v", info, err)
						}
					}
				})
			}
			wg.Wait()
			e.Pause(true)
			total := 0
			for _, kv := range everything(t, stores[0]) {
				total += len(kv.Value)
				if int(kv.Version) != len(kv.Value) {
					t.Errorf("%q: version %d, %d increments", kv.Key, kv.Version, len(kv.Value))
				}
			}
			if total != clients*increments {
				t.Errorf("%d increments of %d", total, clients*increments)
			}
			head, err := stores[1].Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			log, _, err := stores[0].ReadLog(t.Context(), 0, 1<<20, 1<<30)
			if err != nil || !slices.IsSortedFunc(log, func(a, b revlog.Entry) int {
				return order.Compare(a.Rev, b.Rev)
			}) {
				t.Fatal(err)
			}
			for i := range feeds {
				waitFor(t, func() bool { return feeds[i].reached(head) })
				if diff := cmp.Diff(whole(stores[0], log), feeds[i].all(), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("feed %d: %s", i, diff)
				}
			}
			check(t, e, stores[0], nil, false).checkReads(stores[1], 3)
		})
	}
}
