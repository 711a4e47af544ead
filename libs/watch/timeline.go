package watch

import (
	"sort"
	"time"
)

// timeline remembers when revisions arrived, roughly and in bounded memory.
type timeline struct {
	samples []sample // at most maxSamples, in order of both
	step    time.Duration
}

type sample struct {
	rev int64
	at  time.Duration
}

const (
	// maxSamples bounds a timeline. When it is full, every second sample is dropped and the step doubles.
	maxSamples = 1024
	// sampleStep is a timeline's first step.
	sampleStep = 100 * time.Millisecond
)

// add notes when rev arrived, on the hub's clock. Both must grow.
func (t *timeline) add(rev int64, at time.Duration) {
	n := len(t.samples)
	if n > 0 && at < t.samples[n-1].at+max(t.step, sampleStep) {
		return
	}
	if n == maxSamples {
		for i := range n / 2 {
			t.samples[i] = t.samples[2*i]
		}
		t.samples = t.samples[:n/2]
		t.step = 2 * max(t.step, sampleStep)
	}
	t.samples = append(t.samples, sample{rev, at})
}

// since returns when rev arrived, or up to a few steps earlier: the time of the last sample that is not after it. For
// earlier revisions it is 0, the start of the clock.
func (t *timeline) since(rev int64) time.Duration {
	i := sort.Search(len(t.samples), func(i int) bool { return t.samples[i].rev > rev })
	if i == 0 {
		return 0
	}
	return t.samples[i-1].at
}
