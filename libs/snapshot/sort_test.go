package snapshot

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// TestSorter: whatever fits into memory, records come in the order of their revisions and sub-revisions, and those
// for which both are the same in the order in which they were given. Nothing is left on disk.
func TestSorter(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, bytes := range []int{1, 300, 5000, 1 << 20} {
		dir := t.TempDir()
		s := newSorter(dir, bytes)
		type rec struct {
			rev    int64
			sub, n int
		}
		var want, got []rec
		for n := range 1000 {
			rev, sub := r.Int64N(300), r.IntN(3)
			want = append(want, rec{rev, sub, n})
			err := s.add(rev, sub, func(b []byte) []byte {
				return append(binary.BigEndian.AppendUint64(b, uint64(n)), make([]byte, n%50)...)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		slices.SortStableFunc(want, func(a, b rec) int {
			return cmp.Or(cmp.Compare(a.rev, b.rev), cmp.Compare(a.sub, b.sub))
		})
		err := s.each(func(rev int64, sub int, b []byte) error {
			n := int(binary.BigEndian.Uint64(b))
			if len(b) != 8+n%50 {
				return fmt.Errorf("record %d has %d bytes", n, len(b))
			}
			got = append(got, rec{rev, sub, n})
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
