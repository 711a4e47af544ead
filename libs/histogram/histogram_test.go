package histogram

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHistogram(t *testing.T) {
	h := New(Doubling(10, 3)...)
	for _, v := range []int64{-5, 0, 10, 11, 20, 40} {
		h.Observe(1, v)
	}
	h.Observe(3, 41)
	h.Took(15 * time.Nanosecond)
	want := Reading{
		Count: 10, Sum: 10 + 11 + 20 + 40 + 3*41 + 15,
		Bounds: []int64{10, 20, 40}, Cumulative: []uint64{3, 6, 7},
	}
	if diff := cmp.Diff(want, h.Read()); diff != "" {
		t.Error(diff)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	h := New(Doubling(1, 20)...)
	if n := testing.AllocsPerRun(100, func() { h.Observe(1, 12345) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
