package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/wiring"
)

// sizedEngine tells mvcc the size of the store.
type sizedEngine struct{ *pebble.Store }

// Sizes implements mvcc.Sizer.
func (e sizedEngine) Sizes() (total, inUse int64) {
	s := e.Stats()
	return int64(s.DiskBytes), int64(s.LiveBytes - min(s.GarbageBytes, s.LiveBytes))
}

// httpOptions says what the HTTP endpoints show of n.
func (n *node) httpOptions(c server.Config) server.HTTPOptions {
	return wiring.HTTP(c, wiring.Parts{
		Header:     n.header,
		GRPC:       n.grpc,
		Store:      n.store,
		Alarms:     n.alarms.Alarms,
		Watch:      n.hub.Stats,
		Engine:     n.engineStats,
		Collectors: []prometheus.Collector{n.disk, n.watched, n.keeper, wiring.StoreCollector{Usage: n.store.Usage()}, ownCollector{n.engine}},
	}, n.log)
}

// engineStats adds the engine's part of what etcd's metrics show.
func (n *node) engineStats(s *server.Stats) {
	e := n.engine.Stats()
	s.OpenReads, s.WritesPending, s.Quota = int64(e.OpenTxns), int64(e.Undurable), n.quota
	s.DBSize, s.DBSizeInUse = n.store.Sizes()
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
	own("store_garbage_bytes", "Bytes on disk that engine compactions are expected to free.", prometheus.GaugeValue, func(e *pebble.Stats) float64 { return float64(e.GarbageBytes) }),
	own("store_compaction_debt_bytes", "Bytes that engine compactions have yet to move.", prometheus.GaugeValue, func(e *pebble.Stats) float64 { return float64(e.CompactionDebt) }),
	own("store_read_amplification", "Tables that a lookup may have to ask.", prometheus.GaugeValue, func(e *pebble.Stats) float64 { return float64(e.ReadAmp) }),
	own("store_cache_hits_total", "Block cache hits.", prometheus.CounterValue, func(e *pebble.Stats) float64 { return float64(e.CacheHits) }),
	own("store_cache_misses_total", "Block cache misses.", prometheus.CounterValue, func(e *pebble.Stats) float64 { return float64(e.CacheMisses) }),
	own("disk_free_bytes", "Free bytes on the disk of the data directory.", prometheus.GaugeValue, func(e *pebble.Stats) float64 { return float64(e.FreeBytes) }),
	own("disk_full", "1 while writes that grow the store are refused for lack of disk space.", prometheus.GaugeValue, func(e *pebble.Stats) float64 {
		if e.NoSpace {
			return 1
		}
		return 0
	}),
}

// ownCollector collects ownMetrics.
type ownCollector struct{ engine *pebble.Store }

func (c ownCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range ownMetrics {
		ch <- m.desc
	}
}

func (c ownCollector) Collect(ch chan<- prometheus.Metric) {
	e := c.engine.Stats()
	for _, m := range ownMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&e))
	}
}
