package enginetest

import (
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

// testAdd: what transactions add to a counter at the same time is all there, and nobody conflicts.
func testAdd(t *testing.T, e Engine) {
	s := e.Store
	const workers, each = 8, 25
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				x, err := s.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				x.Add([]byte("sum"), int64(w*each+i)-7)
				x.Add([]byte("sum"), 7)
				x.Add([]byte("below zero"), -1)
				x.Set([]byte{'w', byte(w), byte(i)}, nil)
				if _, err := commit(x); err != nil {
					t.Errorf("a transaction that only adds: %v", err)
				}
			}
		})
	}
	wg.Wait()
	r := snapshot(t, s)
	defer r.Close()
	n := int64(workers * each)
	wantGet(t, r, "sum", engine.AppendCounter(nil, n*(n-1)/2))
	wantGet(t, r, "below zero", engine.AppendCounter(nil, -n))
	for row, want := range map[string]int64{"sum": n * (n - 1) / 2, "below zero": -n, "absent": 0} {
		if v, ok := engine.ParseCounter(get(t, r, row)); !ok || v != want {
			t.Errorf("%s: %d, %v, want %d", row, v, ok, want)
		}
	}
	if _, ok := engine.ParseCounter([]byte("seven..")); ok {
		t.Error("seven bytes count as a counter")
	}
}
