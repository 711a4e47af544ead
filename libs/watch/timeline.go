package watch

import (
	"sort"
	"time"
)

// timeline remembers, coarsely and in bounded memory, when revisions arrived.
type timeline struct {
	samples []sample // at most maxSamples, in order of both
	step    time.Duration
}

type sample struct {
	rev int64
	at  time.Duration
}

const (
	// maxSamples bounds a timeline: when it is full, every second sample goes and the step doubles.
	maxSamples = 1024
	// sampleStep is a timeline's first step.
	sampleStep = 100 * time.Millisecond
)

// add notes that rev arrived at a time on the hub's clock; both must grow.
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

// since returns when rev arrived, too early by a few steps at most: the time of the last sample that is not after it.
// It is 0, the begin of the clock, for what came before.
func (t *timeline) since(rev int64) time.Duration {
	i := sort.Search(len(t.samples), func(i int) bool { return t.samples[i].rev > rev })
	if i == 0 {
		return 0
	}
	return t.samples[i-1].at
}
