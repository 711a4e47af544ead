package compose

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/histogram"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
)

// queueMetric is a number of what waits to be written.
type queueMetric struct {
	desc  *prometheus.Desc
	value func(*mvcc.WriteQueue) float64
}

func queueGauge(name, help string, value func(*mvcc.WriteQueue) float64) queueMetric {
	return queueMetric{prometheus.NewDesc("headwater_write_"+name, help, nil, nil), value}
}

var queueMetrics = []queueMetric{
	queueGauge("queue_requests", "Requests that wait for a group commit.",
		func(q *mvcc.WriteQueue) float64 { return float64(q.Requests) }),
	queueGauge("queue_bytes", "Bytes of the requests that wait for a group commit.",
		func(q *mvcc.WriteQueue) float64 { return float64(q.Bytes) }),
	queueGauge("blocked_requests", "Requests that wait behind others which touch the same keys.",
		func(q *mvcc.WriteQueue) float64 { return float64(q.BlockedRequests) }),
	queueGauge("blocked_keys", "Keys at which requests wait behind others.",
		func(q *mvcc.WriteQueue) float64 { return float64(q.BlockedKeys) }),
	queueGauge("oldest_seconds", "Age of the oldest write without an answer, whether it waits or is being committed.",
		func(q *mvcc.WriteQueue) float64 { return q.Oldest.Seconds() }),
}

const nanosecond = 1e-9 // in seconds

// writeHistograms shows the histograms of writes.
func writeHistograms(w *mvcc.Writes) []*server.Histogram {
	seconds := func(name, help string, h *histogram.Histogram) *server.Histogram {
		return server.NewHistogram("headwater_"+name+"_seconds", help, nanosecond, h)
	}
	return []*server.Histogram{
		seconds("write_wait", "Time that writes waited for their first group commit.", w.Wait),
		seconds("write_blocked",
			"The part of it in which others were before them that touch the same keys, of writes that met any.", w.Behind),
		seconds("group_evaluation", "Time that groups took to begin, read and evaluate.", w.Evaluation),
		seconds("group_commit", "Time from the start of a group's commit until its outcome was known.", w.Commit),
		server.NewHistogram("headwater_group_requests", "Requests in a group.", 1, w.Requests),
		server.NewHistogram("headwater_group_bytes", "Bytes of the requests in a group.", 1, w.Bytes),
	}
}

var (
	descRetries = prometheus.NewDesc("headwater_group_retries_total",
		"Attempts of groups that came to nothing, by reason; they are made again, whole or in parts, or refused.",
		[]string{"class"}, nil)
	descUnknown = prometheus.NewDesc("headwater_group_unknown_outcomes_total",
		"Commits whose outcome the engine did not know, by what was found out.", []string{"outcome"}, nil)
)

// writeCollector collects the metrics of a store's way of writes.
type writeCollector struct {
	store      *mvcc.Store
	histograms []*server.Histogram
}

func newWriteCollector(s *mvcc.Store) writeCollector {
	return writeCollector{s, writeHistograms(s.Writes())}
}

// Describe implements prometheus.Collector.
func (c writeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range queueMetrics {
		ch <- m.desc
	}
	for _, h := range c.histograms {
		h.Describe(ch)
	}
	ch <- descRetries
	ch <- descUnknown
}

// Collect implements prometheus.Collector.
func (c writeCollector) Collect(ch chan<- prometheus.Metric) {
	q := c.store.WriteQueue()
	for _, m := range queueMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value(&q))
	}
	for _, h := range c.histograms {
		h.Collect(ch)
	}
	w := c.store.Writes()
	for class := range mvcc.Retries {
		n := float64(w.Retries[class].Load())
		ch <- prometheus.MustNewConstMetric(descRetries, prometheus.CounterValue, n, class.String())
	}
	for outcome := range mvcc.Unknowns {
		n := float64(w.Unknown[outcome].Load())
		ch <- prometheus.MustNewConstMetric(descUnknown, prometheus.CounterValue, n, outcome.String())
	}
}
