package status

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	// sampleEvery is the shortest time between two readings of the metrics.
	sampleEvery = time.Second
	// window is the greatest age of the sample from which rates are computed. It is the oldest sample that is kept. A
	// sample takes nearly a megabyte.
	window = 15 * time.Second
	// pastMax bounds the earlier rates that are kept.
	pastMax = 120
	// staleAfter is the age from which samples are not used for rates, if nobody has looked since.
	staleAfter = 2 * time.Minute
)

// sample is the values of the metrics at a time.
type sample struct {
	at       time.Time
	families map[string]*dto.MetricFamily
}

// meter computes rates from counters, and quantiles from histograms, while somebody looks.
type meter struct {
	metrics prometheus.Gatherer
	now     func() time.Time

	mu      sync.Mutex
	samples []sample // the oldest first; all but the last two are within the window
	past    []Rates  // between one sample and the next, the oldest first
}

func newMeter(g prometheus.Gatherer, now func() time.Time) *meter {
	return &meter{metrics: g, now: now}
}

// span is two samples. Rates are computed from what lies between them.
type span struct {
	from, to sample
	seconds  float64 // 0: from is the start of the process
}

// look returns the newest sample with an earlier one, and the earlier rates, the oldest first. If the newest sample is
// too old, look takes another.
func (m *meter) look() (s span, past []Rates) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if n := len(m.samples); n == 0 || now.Sub(m.samples[n-1].at) >= sampleEvery {
		m.take(now)
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	if len(m.samples) == 1 {
		return span{to: last}, nil
	}
	return between(first, last), slices.Clone(m.past)
}

func between(from, to sample) span { return span{from, to, to.at.Sub(from.at).Seconds()} }

// take adds a sample. A metric that cannot be gathered is missing in it, as for a scraper.
func (m *meter) take(now time.Time) {
	if n := len(m.samples); n > 0 && now.Sub(m.samples[n-1].at) > staleAfter {
		m.samples, m.past = nil, nil
	}
	s := sample{at: now, families: map[string]*dto.MetricFamily{}}
	if m.metrics != nil {
		all, _ := m.metrics.Gather()
		for _, f := range all {
			s.families[f.GetName()] = f
		}
	}
	if n := len(m.samples); n > 0 {
		if len(m.past) == pastMax {
			m.past = slices.Delete(m.past, 0, 1)
		}
		m.past = append(m.past, between(m.samples[n-1], s).rates())
	}
	m.samples = append(m.samples, s)
	for len(m.samples) > 2 && now.Sub(m.samples[0].at) > window {
		m.samples = slices.Delete(m.samples, 0, 1) // also clears the tail, so that its memory can be freed
	}
}

// value returns the sum of a metric's series that have all the given labels. ok is false if there is none.
func (s sample) value(name string, labels ...string) (sum float64, ok bool) {
	for _, m := range s.families[name].GetMetric() {
		if !has(m, labels) {
			continue
		}
		ok = true
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
	}
	return sum, ok
}

// number returns value as a whole number, or 0 if there is none.
func (s sample) number(name string, labels ...string) int64 {
	v, _ := s.value(name, labels...)
	return int64(v)
}

// has says whether a series has labels, given as names and values in turn.
func has(m *dto.Metric, labels []string) bool {
	for i := 0; i+1 < len(labels); i += 2 {
		if labelOf(m, labels[i]) != labels[i+1] {
			return false
		}
	}
	return true
}

func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// rate returns how much a counter grows per second; nil: not known yet.
func (s span) rate(name string, labels ...string) *float64 {
	if s.seconds <= 0 {
		return nil
	}
	to, _ := s.to.value(name, labels...)
	from, _ := s.from.value(name, labels...)
	r := max(to-from, 0) / s.seconds
	return &r
}

// bucket is a bucket of a histogram.
type bucket struct {
	bound float64
	count float64 // of this bucket alone
}

// buckets returns the buckets of all of a histogram's series that have the given labels, over the span.
func (s span) buckets(name string, labels ...string) []bucket {
	newer, older := s.to.buckets(name, labels), s.from.buckets(name, labels)
	for i := range newer {
		if i < len(older) {
			newer[i].count = max(newer[i].count-older[i].count, 0)
		}
	}
	return newer
}

func (s sample) buckets(name string, labels []string) (all []bucket) {
	for _, m := range s.families[name].GetMetric() {
		if !has(m, labels) {
			continue
		}
		h, before := m.GetHistogram(), 0.0
		list := h.GetBucket()
		for i := 0; i <= len(list); i++ {
			bound, upTo := math.Inf(1), float64(h.GetSampleCount())
			if i < len(list) {
				bound, upTo = list[i].GetUpperBound(), float64(list[i].GetCumulativeCount())
			} else if n := len(list); n > 0 && math.IsInf(list[n-1].GetUpperBound(), 1) {
				break
			}
			if i == len(all) {
				all = append(all, bucket{bound: bound})
			}
			all[i].count += upTo - before
			before = upTo
		}
	}
	return all
}

// count returns how many observations there are.
func count(buckets []bucket) (n float64) {
	for _, b := range buckets {
		n += b.count
	}
	return n
}

// quantile returns the value below which a part q of the observations lie. It interpolates within a bucket, as
// Prometheus does. Values above the last bound count as that bound.
func quantile(q float64, buckets []bucket) float64 {
	rank, seen, lower := q*count(buckets), 0.0, 0.0
	for _, b := range buckets {
		if b.count > 0 && seen+b.count >= rank {
			if math.IsInf(b.bound, 1) {
				return lower
			}
			return lower + (b.bound-lower)*(rank-seen)/b.count
		}
		seen += b.count
		if !math.IsInf(b.bound, 1) {
			lower = b.bound
		}
	}
	return lower
}
