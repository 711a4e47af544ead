package mvcc

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// TestSortStable compares with the library's sort, over sizes with one run, whole runs and pieces of runs, and ends
// when the context has.
func TestSortStable(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{0, 1, sortRun, sortRun + 1, 3 * sortRun, 4*sortRun + r.IntN(sortRun)} {
		kvs := make([]KV, n)
		for i := range kvs {
			kvs[i] = KV{Create: int64(i), Version: r.Int64N(50)}
		}
		compare := func(a, b KV) int { return int(a.Version - b.Version) }
		want := slices.Clone(kvs)
		slices.SortStableFunc(want, compare)
		if err := sortStable(t.Context(), kvs, compare); err != nil || !reflect.DeepEqual(kvs, want) {
			t.Errorf("%d keys: not the same, %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	compares := 0
	err := sortStable(ctx, make([]KV, 100*sortRun), func(_, _ KV) int {
		compares++
		cancel()
		return 0
	})
	if !errors.Is(err, context.Canceled) || compares > 20*sortRun {
		t.Errorf("%v after %d compares", err, compares)
	}
}
