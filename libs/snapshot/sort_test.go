package snapshot

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// TestSorter: whatever fits into memory, records come in the order of their revisions, and those of one revision in
// the order in which they were given. Nothing is left on disk.
func TestSorter(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, bytes := range []int{1, 300, 5000, 1 << 20} {
		dir := t.TempDir()
		s := newSorter(dir, bytes)
		type rec struct {
			rev int64
			n   int
		}
		var want, got []rec
		for n := range 1000 {
			rev := r.Int64N(300)
			want = append(want, rec{rev, n})
			err := s.add(rev, func(b []byte) []byte {
				return append(binary.BigEndian.AppendUint64(b, uint64(n)), make([]byte, n%50)...)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		slices.SortStableFunc(want, func(a, b rec) int { return int(a.rev - b.rev) })
		err := s.each(func(rev int64, b []byte) error {
			n := int(binary.BigEndian.Uint64(b))
			if len(b) != 8+n%50 {
				return fmt.Errorf("record %d has %d bytes", n, len(b))
			}
			got = append(got, rec{rev, n})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(want, got) {
			t.Errorf("%d bytes of memory: not in order", bytes)
		}
		if err := s.close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v is left, %v", left, err)
		}
	}
}
