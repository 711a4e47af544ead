package mvcc_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// hashing marks the context of the hash: the store takes snapshots of its own.
type hashing struct{}

// A hash of the head must not fail because the head moves on and what was the head is compacted meanwhile.
func TestHashOfHeadMeetsCompaction(t *testing.T) {
	var s *mvcc.Store
	var snapshots atomic.Int64 // until the writes in between; 0: none to come
	e := faults.New(openEngine(t, pebble.Options{Sparse: true}),
		faults.Options{Delay: func(ctx context.Context, op faults.Op) {
			if op != faults.Snapshot || ctx.Value(hashing{}) == nil || snapshots.Load() == 0 || snapshots.Add(-1) != 0 {
				return
			}
			if _, err := s.Compact(ctx, put(t, s, "k", "new"), false); err != nil {
				t.Error(err)
			}
		}})
	s = open(t, e, mvcc.Options{})
	first := put(t, s, "k", "v")
	snapshots.Store(2)
	_, rev, _, head, err := s.HashKV(context.WithValue(t.Context(), hashing{}, true), 0)
	if err != nil || rev != head || head < first {
		t.Fatalf("hash at %d, head %d, error %v; want both from %d on", rev, head, err, first)
	}
	if snapshots.Load() != 0 {
		t.Fatal("nothing has been compacted meanwhile")
	}
}
