package server

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/histogram"
)

// Histogram shows a histogram to Prometheus in another unit than it counts in.
type Histogram struct {
	desc   *prometheus.Desc
	unit   float64
	values *histogram.Histogram
}

// NewHistogram shows values. unit is the shown value of one: 1e-9 shows nanoseconds as seconds.
func NewHistogram(name, help string, unit float64, values *histogram.Histogram) *Histogram {
	return &Histogram{desc: prometheus.NewDesc(name, help, nil, nil), unit: unit, values: values}
}

// Describe implements prometheus.Collector.
func (h *Histogram) Describe(ch chan<- *prometheus.Desc) { ch <- h.desc }

// Collect implements prometheus.Collector.
func (h *Histogram) Collect(ch chan<- prometheus.Metric) { h.collect(ch) }

// collect shows the histogram with the labels that its description has.
func (h *Histogram) collect(ch chan<- prometheus.Metric, labels ...string) {
	r := h.values.Read()
	buckets := make(map[float64]uint64, len(r.Bounds))
	for i, b := range r.Bounds {
		buckets[h.shown(b)] = r.Cumulative[i]
	}
	ch <- prometheus.MustNewConstHistogram(h.desc, r.Count, float64(r.Sum)*h.unit, buckets, labels...)
}

// shown returns a bound in the unit that is shown, without rounding errors: 0.0001 and not 0.00010000000000000002.
func (h *Histogram) shown(bound int64) float64 {
	if h.unit < 1 {
		return float64(bound) / math.Round(1/h.unit)
	}
	return float64(bound) * h.unit
}

// Latencies is a Prometheus histogram of durations. It counts several observations of the same duration in one step,
// such as the events of one write to a stream. Its methods may be called from any goroutine.
type Latencies struct{ *Histogram }

// NewLatencies returns an empty histogram. bounds are the upper bounds of its buckets in seconds, in rising order.
func NewLatencies(name, help string, bounds []float64) *Latencies {
	return &Latencies{NewHistogram(name, help, 1/float64(time.Second), histogram.New(nanoseconds(bounds)...))}
}

// nanoseconds converts bounds from seconds.
func nanoseconds(bounds []float64) []int64 {
	nanos := make([]int64, len(bounds))
	for i, b := range bounds {
		nanos[i] = int64(math.Round(b * float64(time.Second)))
	}
	return nanos
}

// Observe counts n things that took d.
func (l *Latencies) Observe(n int, d time.Duration) { l.values.Observe(n, int64(d)) }
