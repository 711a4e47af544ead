package mvcc_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestActivationOvertakes holds each kind of request between its evaluation and its commit while another pod activates
// features: none may write as if it had not been overtaken, neither the head nor a row of the format before. A process
// of an earlier release reads and writes with the same conflicts, and finds out when it evaluates the request again.
func TestActivationOvertakes(t *testing.T) {
	large := []byte(strings.Repeat("v", 1000))
	setup := func(ctx context.Context, s *mvcc.Store) error {
		for _, id := range []int64{7, 8} {
			if _, err := s.LeaseGrant(ctx, id, 60, nil); err != nil {
				return err
			}
		}
		for _, key := range []string{"w/a", "w/b", "w/c"} {
			for range 2 {
				if _, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Value: large, Lease: 7}); err != nil {
					return err
				}
			}
		}
		return nil
	}
	putOf := func(key string) func(context.Context, *mvcc.Store) error {
		return func(ctx context.Context, s *mvcc.Store) error {
			_, err := s.Put(ctx, &mvcc.PutRequest{Key: []byte(key), Value: large})
			return err
		}
	}
	for name, held := range map[string]func(context.Context, *mvcc.Store) error{
		"a put of a new key": putOf("new"),
		"a put":              putOf("w/a"),
		"a delete of a range": func(ctx context.Context, s *mvcc.Store) error {
			_, err := s.DeleteRange(ctx, &mvcc.DeleteRequest{Key: []byte("w"), End: []byte("x")})
			return err
		},
		"a transaction": func(ctx context.Context, s *mvcc.Store) error {
			_, err := s.Txn(ctx, &mvcc.TxnRequest{
				Compares: []mvcc.Compare{{Key: []byte("w"), End: []byte("x"), Target: mvcc.CompareVersion, Result: mvcc.Greater}},
				Success:  []mvcc.Op{{Put: &mvcc.PutRequest{Key: []byte("new"), Value: large}}, {Delete: &mvcc.DeleteRequest{Key: []byte("w/b")}}},
			})
			return err
		},
		"a grant":       func(ctx context.Context, s *mvcc.Store) error { _, err := s.LeaseGrant(ctx, 9, 60, nil); return err },
		"a revoke":      func(ctx context.Context, s *mvcc.Store) error { _, err := s.LeaseRevoke(ctx, 7, nil); return err },
		"a bare revoke": func(ctx context.Context, s *mvcc.Store) error { _, err := s.LeaseRevoke(ctx, 8, nil); return err },
		"a compaction":  func(ctx context.Context, s *mvcc.Store) error { return compactBack(ctx, s, 1) },
		"a claim":       func(ctx context.Context, s *mvcc.Store) error { _, err := s.ClaimLeases(ctx, 0); return err },
		"an alarm":      func(ctx context.Context, s *mvcc.Store) error { return s.SetAlarm(ctx, "NOSPACE", true) },
	} {
		t.Run(name, func(t *testing.T) {
			holding, arm, entered, release := holdCommit()
			e := faults.New(openEngine(t, fdb), holding)
			o := mvcc.Options{Shift: 3, NoFeatures: true, NoRemoval: true}
			a, b := open(t, e, o), open(t, e, o)
			if err := setup(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			arm()
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := held(t.Context(), a); err != nil {
					t.Error(err)
				}
			})
			<-entered
			if err := b.Activate(t.Context(), mvcc.FeatureValues); err != nil {
				t.Error(err)
			}
			close(release)
			wg.Wait()
			// What comes next is of the new format wherever it comes from, and so is what the held request has written.
			for _, s := range []*mvcc.Store{a, b} {
				put(t, s, "after", string(large))
				if s.Features() != mvcc.FeatureValues {
					t.Errorf("features %v", s.Features())
				}
			}
			if err := b.SetAlarm(t.Context(), "NOSPACE", false); err != nil { // the checker knows no alarms
				t.Error(err)
			}
			check(t, e, b, nil, false)
			again := open(t, e, o)
			if again.Meta().Features != mvcc.FeatureValues || again.Features() != mvcc.FeatureValues {
				t.Errorf("features of the keyspace %v", again.Meta().Features)
			}
		})
	}
}

// TestActivationUnderLoad: an activation comes through while several pods write the head more often than a transaction
// takes that reads it.
func TestActivationUnderLoad(t *testing.T) {
	for name, recent := range map[string]bool{"plain": false, "on recent states": true} {
		t.Run(name, func(t *testing.T) {
			o := faults.Options{Recent: recent, Delay: func(_ context.Context, op faults.Op) {
				if op != faults.Next {
					time.Sleep(2 * time.Millisecond) // the way to the database
				}
			}}
			e := faults.New(testengine.KeepOpen(openEngine(t, fdb)), o)
			t.Cleanup(func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			})
			const pods, clients = 3, 16
			stores := make([]*mvcc.Store, pods)
			for i := range stores {
				stores[i] = open(t, e, mvcc.Options{NoFeatures: true, NoRemoval: true, Lanes: 4})
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var puts atomic.Int64
			busy := make(chan struct{})
			for i, s := range stores {
				for j := range clients {
					wg.Go(func() {
						for k := 0; ctx.Err() == nil; k++ {
							_, err := s.Put(ctx, &mvcc.PutRequest{Key: fmt.Append(nil, i, j, k)})
							if err != nil && ctx.Err() == nil {
								t.Error(err)
							}
							if puts.Add(1) == pods*clients*4 {
								close(busy)
							}
						}
					})
				}
			}
			<-busy
			limited, stop := context.WithTimeout(ctx, 2*time.Minute)
			err := stores[0].Activate(limited, mvcc.FeatureValues)
			stop()
			cancel()
			wg.Wait()
			if err != nil {
				t.Error(err)
			}
			check(t, e, stores[1], nil, false)
		})
	}
}
