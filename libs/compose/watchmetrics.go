package compose

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/watch"
)

// watchMetric is a metric of the watch hub that etcd does not have.
type watchMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*watch.Stats) float64
}

func watchGauge(name, help string, value func(*watch.Stats) float64) watchMetric {
	return watchMetric{prometheus.NewDesc("headwater_watch_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

func watchCounter(name, help string, labels prometheus.Labels, value func(*watch.Stats) uint64) watchMetric {
	d := prometheus.NewDesc("headwater_watch_"+name, help, nil, labels)
	return watchMetric{d, prometheus.CounterValue, func(s *watch.Stats) float64 { return float64(value(s)) }}
}

// source labels what catch-up reads: ring is memory, log the store.
func source(s string) prometheus.Labels { return prometheus.Labels{"source": s} }

const (
	helpPasses  = "Reads of history on behalf of watchers that lag, each for all of them that are near one another."
	helpEntries = "Log entries read for watchers that lag."
)

var watchMetrics = []watchMetric{
	watchCounter("catch_up_passes_total", helpPasses, source("ring"), func(s *watch.Stats) uint64 { return s.RingPasses }),
	watchCounter("catch_up_passes_total", helpPasses, source("log"), func(s *watch.Stats) uint64 { return s.Passes - s.RingPasses }),
	watchCounter("catch_up_entries_total", helpEntries, source("ring"), func(s *watch.Stats) uint64 { return s.RingPassEntries }),
	watchCounter("catch_up_entries_total", helpEntries, source("log"), func(s *watch.Stats) uint64 { return s.PassEntries - s.RingPassEntries }),
	watchCounter("fallen_total", "Watchers that kept up until the memory of recent events did not reach back to them.", nil, func(s *watch.Stats) uint64 { return s.Fallen }),
	watchCounter("damaged_total", "Watchers canceled because their history could not be read.", nil, func(s *watch.Stats) uint64 { return s.Damaged }),
	watchCounter("compacted_total", "Watchers canceled because their history was compacted.", nil, func(s *watch.Stats) uint64 { return s.Compacted }),
	watchCounter("responses_total", "Responses handed to streams.", nil, func(s *watch.Stats) uint64 { return s.Responses }),
	watchCounter("progress_total", "Progress notifications handed to streams.", nil, func(s *watch.Stats) uint64 { return s.Progress }),
	watchGauge("lag_revisions", "Revisions between the newest and the watcher furthest behind.", func(s *watch.Stats) float64 { return float64(s.LagRevisions) }),
	watchGauge("lag_seconds", "Age of the oldest revision that a watcher waits for, counted at most from the start of the server.", func(s *watch.Stats) float64 { return s.LagTime.Seconds() }),
	watchGauge("lagging", "Watchers that lag, including those whose clients do not read.", func(s *watch.Stats) float64 { return float64(s.Lagging) }),
	watchGauge("groups", "Distinct ranges and options of all watchers.", func(s *watch.Stats) float64 { return float64(s.Groups) }),
	watchGauge("history_bytes", "Memory taken by recent events.", func(s *watch.Stats) float64 { return float64(s.RingBytes) }),
	watchGauge("inbox_bytes", "Memory taken by events that have not been matched yet.", func(s *watch.Stats) float64 { return float64(s.InboxBytes) }),
}

// watchCollector collects the metrics of a watch hub that etcd does not have, from one look at it.
type watchCollector func() watch.Stats

// Describe implements prometheus.Collector.
func (c watchCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range watchMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c watchCollector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	for _, m := range watchMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s))
	}
}
