package mvcc_test

import (
	"math/rand/v2"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestBehind: revisions are counted, and neither the gaps between their numbers nor the rows of their entries.
func TestBehind(t *testing.T) {
	for name, engine := range map[string]pebble.Options{"dense": {}, "sparse": fdb} {
		t.Run(name, func(t *testing.T) {
			s := open(t, openEngine(t, engine), mvcc.Options{ChunkBytes: 16, InlineBytes: 64})
			check := func(n, want int64) {
				t.Helper()
				got, err := s.Behind(t.Context(), n)
				if err != nil || got != want && (want > 0 || got > 1) {
					t.Errorf("behind %d: %d, %v, want %d", n, got, err, want)
				}
			}
			check(1, 0)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			var revs []int64
			for range 30 {
				revs = append(revs, put(t, s, "k", string(make([]byte, r.IntN(64))))) // up to five rows
			}
			for n := range revs {
				check(int64(n), revs[len(revs)-1-n])
			}
			check(30, 0)
			check(1000, 0)
			if _, err := s.Compact(t.Context(), revs[9], true); err != nil {
				t.Fatal(err)
			}
			check(20, revs[9])
			check(25, revs[4]*dense(s))
		})
	}
}

// dense is 1 for a store whose revisions have no gaps, else 0.
func dense(s *mvcc.Store) int64 {
	if s.Meta().Space.Shift == 0 {
		return 1
	}
	return 0
}
