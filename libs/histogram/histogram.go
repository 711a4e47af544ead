package histogram

import (
	"slices"
	"sync/atomic"
	"time"
)

// Histogram counts whole numbers: nanoseconds, bytes, or things.
type Histogram struct {
	bounds []int64
	counts []atomic.Uint64 // per bucket, and one for values above all bounds
	sum    atomic.Uint64
}

// New returns an empty histogram. bounds are the inclusive upper bounds of its buckets, in rising order.
func New(bounds ...int64) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Doubling returns n bounds: first, and each twice the one before.
func Doubling(first int64, n int) []int64 {
	bounds := make([]int64, n)
	for i := range bounds {
		bounds[i] = first << i
	}
	return bounds
}

// Observe counts n things that measure v each. A negative v counts as 0.
func (h *Histogram) Observe(n int, v int64) {
	v = max(v, 0)
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(uint64(n))
	h.sum.Add(uint64(n) * uint64(v))
}

// Took counts one thing that took d.
func (h *Histogram) Took(d time.Duration) { h.Observe(1, int64(d)) }

// Reading is the content of a histogram at one time.
type Reading struct {
	Count      uint64
	Sum        uint64
	Bounds     []int64  // not to be changed
	Cumulative []uint64 // by bound: the number of values at or below it
}

// Read returns what has been counted.
func (h *Histogram) Read() Reading {
	r := Reading{Sum: h.sum.Load(), Bounds: h.bounds, Cumulative: make([]uint64, len(h.bounds))}
	for i := range h.bounds {
		r.Count += h.counts[i].Load()
		r.Cumulative[i] = r.Count
	}
	r.Count += h.counts[len(h.bounds)].Load()
	return r
}
