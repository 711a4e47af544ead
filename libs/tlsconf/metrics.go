package tlsconf

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are the numbers of a TLS since Open.
type counts struct {
	handshakes, reloads, failures atomic.Uint64
	byReason                      [16]atomic.Uint64 // as reasons
}

func (c *counts) failed(why string) {
	for i, r := range reasons {
		if r == why {
			c.byReason[i].Add(1)
		}
	}
}

var (
	useLabel   = []string{"use"}
	descExpiry = prometheus.NewDesc("headwater_tls_expiry_days",
		"Days until the first certificate of a kind expires, or the next revocation list is due; negative after that.",
		[]string{"use", "kind"}, nil)
	descReloads = prometheus.NewDesc("headwater_tls_reloads_total",
		"Times that files for TLS had changed and were read again.", useLabel, nil)
	descFailing = prometheus.NewDesc("headwater_tls_reload_failing",
		"1 while the files for TLS cannot be used as they are, so that those read before stay in use.", useLabel, nil)
	descFailures = prometheus.NewDesc("headwater_tls_reload_failures_total",
		"Reasons for which files for TLS could not be used.", useLabel, nil)
	descHandshakes = prometheus.NewDesc("headwater_tls_handshakes_total",
		"Handshakes of accepted connections that have succeeded.", useLabel, nil)
	descRefused = prometheus.NewDesc("headwater_tls_handshake_failures_total",
		"Handshakes of accepted connections that have failed.", []string{"use", "reason"}, nil)
)

// Collector shows several TLS as metrics. Each must have a different Use. nil entries are skipped.
type Collector []*TLS

// Describe implements prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descExpiry, descReloads, descFailing, descFailures, descHandshakes, descRefused,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. It looks at the files, so that the metrics are right even if nobody
// connects.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	for _, t := range c {
		if t != nil {
			t.collect(ch)
		}
	}
}

func (t *TLS) collect(ch chan<- prometheus.Metric) {
	use := t.o.Use
	m := t.fresh()
	for kind, at := range m.expires {
		ch <- prometheus.MustNewConstMetric(descExpiry, prometheus.GaugeValue, time.Until(at).Hours()/24, use, kind)
	}
	failing := 0.0
	if t.failing.Load() != nil {
		failing = 1
	}
	ch <- prometheus.MustNewConstMetric(descFailing, prometheus.GaugeValue, failing, use)
	count := func(d *prometheus.Desc, n *atomic.Uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()), labels...)
	}
	count(descReloads, &t.counts.reloads, use)
	count(descFailures, &t.counts.failures, use)
	if m.server == nil {
		return
	}
	count(descHandshakes, &t.counts.handshakes, use)
	for i, r := range reasons {
		count(descRefused, &t.counts.byReason[i], use, r)
	}
}
