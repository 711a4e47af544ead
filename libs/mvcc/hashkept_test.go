package mvcc_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// hashOf is what HashKV says of a revision.
type hashOf struct {
	sum          uint32
	rev, compact int64
}

func hashAt(t *testing.T, s *mvcc.Store, rev int64) (h hashOf) {
	t.Helper()
	var err error
	if h.sum, h.rev, h.compact, _, err = s.HashKV(t.Context(), rev); err != nil {
		t.Errorf("hash of %d: %v", rev, err)
	}
	return h
}

// TestHashesKept: after a compaction the hash of its revision is still the one from before, for the last ten, however
// many compactions and writes run at the same time. A compaction that fails leaves none.
func TestHashesKept(t *testing.T) {
	const kept = 10
	s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	future := put(t, s, "k", "first") + 1
	if _, err := s.Compact(t.Context(), future, false); !errors.Is(err, mvcc.ErrFutureRevision) {
		t.Error(err)
	}
	var revs []int64
	var before []hashOf
	compact := int64(-1)
	for i := range kept + 2 {
		for j := range 5 {
			put(t, s, fmt.Sprint("k", j), fmt.Sprint(i))
		}
		rev := put(t, s, "last", "")
		h := hashAt(t, s, rev)
		if i == 0 {
			compact = h.compact
		}
		if h.compact != compact {
			t.Fatalf("the compact revision is %d, want %d", h.compact, compact)
		}
		var all sync.WaitGroup
		for range 3 { // one of them does it
			all.Go(func() {
				if _, err := s.Compact(t.Context(), rev, true); err != nil && !errors.Is(err, mvcc.ErrCompacted) {
					t.Error(err)
				}
			})
		}
		all.Go(func() { put(t, s, "beside", "") })
		all.Wait()
		revs, before, compact = append(revs, rev), append(before, h), rev
	}
	for i, rev := range revs {
		if i < len(revs)-kept {
			if _, _, _, _, err := s.HashKV(t.Context(), rev); !errors.Is(err, mvcc.ErrCompacted) {
				t.Errorf("hash of %d, which is too old to be kept: %v", rev, err)
			}
			continue
		}
		if h := hashAt(t, s, rev); h != before[i] {
			t.Errorf("hash of %d: %v, before the compaction %v", rev, h, before[i])
		}
	}
	if h := hashAt(t, s, 0); h.compact != compact {
		t.Errorf("hash of the head: %v, compacted at %d", h, compact)
	}
}

// TestHashNotKept: a compaction of more than 16 MiB does not take the hash, which would read them all.
func TestHashNotKept(t *testing.T) {
	s := open(t, openEngine(t, pebble.Options{}), mvcc.Options{})
	value := string(make([]byte, 1<<20))
	rev := int64(0)
	for range 17 {
		rev = put(t, s, "k", value)
	}
	if _, err := s.Compact(t.Context(), rev, true); err != nil {
		t.Fatal(err)
	}
	if h := hashAt(t, s, rev); h.compact != rev {
		t.Errorf("the hash is that of before the compaction at %d: compacted at %d", rev, h.compact)
	}
}
