package shards

import "github.com/prometheus/client_golang/prometheus"

var (
	descOwned     = prometheus.NewDesc("headwater_lease_shards_owned", "Lease shards that are kept here.", nil, nil)
	descForwarded = prometheus.NewDesc("headwater_lease_forwarded_total", "Requests about leases sent on to another pod.", nil, nil)
	descMisrouted = prometheus.NewDesc("headwater_lease_misrouted_total",
		"Requests sent on by another pod about leases that are not kept here.", nil, nil)
)

var _ prometheus.Collector = (*Shards)(nil)

// Describe implements prometheus.Collector.
func (s *Shards) Describe(ch chan<- *prometheus.Desc) {
	s.o.Keeper.Meter.Describe(ch)
	ch <- descOwned
	ch <- descForwarded
	ch <- descMisrouted
}

// Collect implements prometheus.Collector.
func (s *Shards) Collect(ch chan<- prometheus.Metric) {
	s.o.Keeper.Meter.Collect(ch)
	ch <- prometheus.MustNewConstMetric(descOwned, prometheus.GaugeValue, float64(len(s.Owned())))
	ch <- prometheus.MustNewConstMetric(descForwarded, prometheus.CounterValue, float64(s.forwarded.Load()))
	ch <- prometheus.MustNewConstMetric(descMisrouted, prometheus.CounterValue, float64(s.misrouted.Load()))
}
