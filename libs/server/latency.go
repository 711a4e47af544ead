package server

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Latencies is a Prometheus histogram of durations that many things may have at once, such as the events of one write to a stream:
// they are counted in one step. Its methods may be called from any goroutine.
type Latencies struct {
	desc    *prometheus.Desc
	seconds []float64       // upper bounds of buckets, inclusive, rising
	bounds  []time.Duration // the same
	counts  []atomic.Uint64 // per bucket, and one for what is above all bounds
	nanos   atomic.Uint64   // sum
}

// NewLatencies returns an empty histogram. Bounds are upper bounds of buckets, in seconds, rising.
func NewLatencies(name, help string, bounds []float64) *Latencies {
	l := &Latencies{desc: prometheus.NewDesc(name, help, nil, nil), seconds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
	for _, b := range bounds {
		l.bounds = append(l.bounds, time.Duration(math.Round(b*float64(time.Second))))
	}
	return l
}

// Observe counts n things that took d.
func (l *Latencies) Observe(n int, d time.Duration) {
	d = max(d, 0)
	i, _ := slices.BinarySearch(l.bounds, d)
	l.counts[i].Add(uint64(n))
	l.nanos.Add(uint64(n) * uint64(d))
}

// Describe implements prometheus.Collector.
func (l *Latencies) Describe(ch chan<- *prometheus.Desc) { ch <- l.desc }

// Collect implements prometheus.Collector.
func (l *Latencies) Collect(ch chan<- prometheus.Metric) {
	var count uint64
	buckets := make(map[float64]uint64, len(l.bounds))
	for i, b := range l.seconds {
		count += l.counts[i].Load()
		buckets[b] = count
	}
	count += l.counts[len(l.bounds)].Load()
	ch <- prometheus.MustNewConstHistogram(l.desc, count, time.Duration(l.nanos.Load()).Seconds(), buckets)
}
