package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Median returns the middle of vs, or the mean of its two middles; NaN if there are none.
func Median(vs []float64) float64 {
	if len(vs) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(vs))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// ratio is how one server's numbers compare to another's.
type ratio struct {
	median   float64 // of medians
	min, max float64 // of the rounds
}

// ratioOf compares two series measured round by round. ok is false if either is empty, or the second holds a zero.
func ratioOf(a, b []float64) (r ratio, ok bool) {
	n := min(len(a), len(b))
	if n == 0 {
		return ratio{}, false
	}
	r = ratio{median: Median(a) / Median(b), min: math.Inf(1), max: math.Inf(-1)}
	for i := range n {
		if b[i] == 0 {
			return ratio{}, false
		}
		q := a[i] / b[i]
		r.min, r.max = min(r.min, q), max(r.max, q)
	}
	return r, !math.IsNaN(r.median) && !math.IsInf(r.median, 0)
}

func (r ratio) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", r.median, r.min, r.max) }

// judge compares the measured ratios with the goal, part by part. A part that was not measured is left out.
func (g goal) judge(rate, ceiling, cpu, p50 *ratio) string {
	var parts []string
	add := func(name string, want float64, got *ratio, reached func(got, want float64) bool) {
		if want == 0 {
			return
		}
		verdict := "not measured"
		if got != nil {
			verdict = "no"
			if reached(got.median, want) {
				verdict = "yes"
			}
		}
		parts = append(parts, fmt.Sprintf("%s %.2f: %s", name, want, verdict))
	}
	atLeast := func(got, want float64) bool { return got >= want }
	atMost := func(got, want float64) bool { return got <= want }
	add("rate ≥", g.rate, rate, atLeast)
	add("ceiling ≥", g.ceiling, ceiling, atLeast)
	add("CPU ≤", g.cpu, cpu, atMost)
	add("p50 ≤", g.p50, p50, atMost)
	return strings.Join(parts, "; ")
}
