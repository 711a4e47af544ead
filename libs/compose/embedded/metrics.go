package embedded

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/server"
)

// AddStats adds the engine's part of etcd's metrics.
func (s store) AddStats(to *server.Stats) {
	e := s.Stats()
	to.OpenReads, to.WritesPending = int64(e.OpenTxns), int64(e.Undurable)
}

// ownMetric is a metric of the engine.
type ownMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*pebble.Stats) float64
}

func own(name, help string, kind prometheus.ValueType, value func(*pebble.Stats) float64) ownMetric {
	return ownMetric{prometheus.NewDesc("headwater_"+name, help, nil, nil), kind, value}
}

var ownMetrics = []ownMetric{
	own("store_garbage_bytes", "Bytes on disk that engine compactions are expected to free.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 { return float64(e.GarbageBytes) }),
	own("store_compaction_debt_bytes", "Bytes that engine compactions have yet to move.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 { return float64(e.CompactionDebt) }),
	own("store_value_files", "Files of large values; 0 if the store has none.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 { return float64(e.ValueFiles) }),
	own("store_value_bytes", "Bytes in files of large values.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 { return float64(e.ValueBytes) }),
	own("store_value_garbage_bytes",
		"Bytes in files of large values that are known to be garbage; part of the store's garbage.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 { return float64(e.ValueGarbage) }),
	own("store_value_moved_bytes_total", "Bytes of large values written again to free files.", prometheus.CounterValue,
		func(e *pebble.Stats) float64 { return float64(e.ValueMoved) }),
	own("store_read_amplification", "Tables that a lookup may have to ask.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 { return float64(e.ReadAmp) }),
	own("store_cache_hits_total", "Block cache hits.", prometheus.CounterValue,
		func(e *pebble.Stats) float64 { return float64(e.CacheHits) }),
	own("store_cache_misses_total", "Block cache misses.", prometheus.CounterValue,
		func(e *pebble.Stats) float64 { return float64(e.CacheMisses) }),
	own("disk_free_bytes", "Free bytes on the disk of the data directory.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 { return float64(e.FreeBytes) }),
	own("disk_full", "1 while writes that grow the store are refused for lack of disk space.", prometheus.GaugeValue,
		func(e *pebble.Stats) float64 {
			if e.NoSpace {
				return 1
			}
			return 0
		}),
}

// Describe implements prometheus.Collector.
func (s store) Describe(ch chan<- *prometheus.Desc) {
	s.disk.Describe(ch)
	for _, m := range ownMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (s store) Collect(ch chan<- prometheus.Metric) {
	s.disk.Collect(ch)
	e := s.Stats()
	for _, m := range ownMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&e))
	}
}
