package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/headwaterdb/headwater/libs/snapshot"
)

// TestWindows: a file is the same, byte for byte, however much of the log is taken at a time, whether what is put off
// fits into memory or not, and whether values are read in the order of their keys or of the log. Nothing is left.
func TestWindows(t *testing.T) {
	seed := seed(t)
	for round := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, round))
		g := &traffic{Rand: r, s: open(t, dense(t))}
		for range 120 {
			g.step(t, round > 0)
		}
		d, err := g.s.BeginDump(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		write := func(size, refs, sort int, ordered bool) []byte {
			dir := t.TempDir()
			o := snapshot.Options{Dir: dir, Reserve: -1, Member: snapshot.Member{ID: 7, Name: "default"}}
			f, err := snapshot.WriteInWindows(t.Context(), d, o, size, refs, sort, ordered)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(f.Reader())
			if err = errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Fatalf("%v is left, %v", left, err)
			}
			return b
		}
		want := write(1<<30, 1<<30, 1<<30, true)
		for _, size := range []int{1, 5000, 1 << 30} {
			for _, sort := range []int{1, 1 << 20} {
				refs := 1 << r.IntN(20)
				if got := write(size, refs, sort, false); !bytes.Equal(got, want) {
					t.Errorf("round %d: windows of %d bytes with %d of versions, %d to sort: another file", round,
						size, refs, sort)
				}
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
