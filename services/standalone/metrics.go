package main

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
)

// metrics are the histograms that are fed as things happen.
type metrics struct {
	disk    *server.DiskMetrics
	watched prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		disk: server.NewDiskMetrics(),
		watched: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "headwater_watch_latency_seconds",
			Help:    "Time from the commit of the oldest event in a watch response to the handing over of the response.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 17), // 100 µs to 6.5 s
		}),
	}
}

func (m *metrics) watchSent(_ int, latency time.Duration) { m.watched.Observe(latency.Seconds()) }

// sizedEngine tells mvcc the size of the store.
type sizedEngine struct{ *pebble.Store }

// Sizes implements mvcc.Sizer.
func (e sizedEngine) Sizes() (total, inUse int64) { return sizes(e.Stats()) }

func sizes(s pebble.Stats) (total, inUse int64) {
	return int64(s.DiskBytes), int64(s.LiveBytes - min(s.GarbageBytes, s.LiveBytes))
}

// httpOptions says what the HTTP endpoints show of n.
func (n *node) httpOptions(c server.Config) server.HTTPOptions {
	id := server.Identity{
		Version: etcdapi.EmulatedVersion, ClusterVersion: etcdapi.ClusterVersion,
		Build: server.Version, MemberID: n.header.MemberID,
	}
	return server.HTTPOptions{
		Health:        n,
		Versions:      server.Versions{Server: etcdapi.EmulatedVersion, Cluster: etcdapi.ClusterVersion, Storage: etcdapi.StorageVersion},
		Metrics:       server.NewRegistry(id, n.grpc, n.stats, n.metrics.disk, n.metrics.watched, n.keeper, ownCollector{n}, watchCollector{n.hub.Stats}),
		Pprof:         c.EnablePprof,
		HostWhitelist: c.HostWhitelist,
		CORS:          c.CORS,
		Log:           n.log,
	}
}

// Read implements server.Health.
func (n *node) Read(ctx context.Context, serializable bool) error {
	_, err := n.store.Range(ctx, &mvcc.RangeRequest{Key: []byte{0}, KeysOnly: true, Limit: 1, Serializable: serializable},
		func(*mvcc.KV) error { return nil })
	return err
}

// Alarms implements server.Health.
func (n *node) Alarms() []*pb.AlarmMember { return n.alarms.Alarms() }

// stats collects what etcd's metrics show. The head of a store that has failed is 0.
func (n *node) stats() server.Stats {
	head, err := n.store.Head(context.Background())
	if err != nil {
		head = 0
	}
	u, w, e := n.store.Usage(), n.hub.Stats(), n.engine.Stats()
	total, inUse := sizes(e)
	return server.Stats{
		Revision:        head,
		CompactRevision: n.store.CompactRevision(),
		Ranges:          uint64(u.Ranges.Load()),
		Puts:            uint64(u.Puts.Load()),
		Deletes:         uint64(u.Deletes.Load()),
		Txns:            uint64(u.Txns.Load()),
		OpenReads:       int64(e.OpenTxns),
		WritesCommitted: uint64(head),
		WritesPending:   int64(e.Undurable),
		DBSize:          total,
		DBSizeInUse:     inUse,
		Quota:           n.quota,
		WatchStreams:    int64(w.Streams),
		Watchers:        int64(w.Watchers),
		SlowWatchers:    int64(w.Lagging),
		PendingEvents:   int64(w.Pending),
		Events:          w.Events,
	}
}

// ownMetric is a metric that only Headwater has.
type ownMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*node, *pebble.Stats) float64
}

func own(name, help string, kind prometheus.ValueType, value func(*node, *pebble.Stats) float64) ownMetric {
	return ownMetric{prometheus.NewDesc("headwater_"+name, help, nil, nil), kind, value}
}

var ownMetrics = []ownMetric{
	own("group_commits_total", "Group commits.", prometheus.CounterValue, func(n *node, _ *pebble.Stats) float64 { return float64(n.store.Usage().Groups.Load()) }),
	own("group_conflicts_total", "Group commits that met a conflict and ran again.", prometheus.CounterValue, func(n *node, _ *pebble.Stats) float64 { return float64(n.store.Usage().Conflicts.Load()) }),
	own("compacted_entries_total", "Log entries removed after compactions.", prometheus.CounterValue, func(n *node, _ *pebble.Stats) float64 { return float64(n.store.Usage().CompactedEntries.Load()) }),
	own("store_garbage_bytes", "Bytes on disk that engine compactions are expected to free.", prometheus.GaugeValue, func(_ *node, e *pebble.Stats) float64 { return float64(e.GarbageBytes) }),
	own("store_compaction_debt_bytes", "Bytes that engine compactions have yet to move.", prometheus.GaugeValue, func(_ *node, e *pebble.Stats) float64 { return float64(e.CompactionDebt) }),
	own("store_read_amplification", "Tables that a lookup may have to ask.", prometheus.GaugeValue, func(_ *node, e *pebble.Stats) float64 { return float64(e.ReadAmp) }),
	own("store_cache_hits_total", "Block cache hits.", prometheus.CounterValue, func(_ *node, e *pebble.Stats) float64 { return float64(e.CacheHits) }),
	own("store_cache_misses_total", "Block cache misses.", prometheus.CounterValue, func(_ *node, e *pebble.Stats) float64 { return float64(e.CacheMisses) }),
	own("disk_free_bytes", "Free bytes on the disk of the data directory.", prometheus.GaugeValue, func(_ *node, e *pebble.Stats) float64 { return float64(e.FreeBytes) }),
	own("disk_full", "1 while writes that grow the store are refused for lack of disk space.", prometheus.GaugeValue, func(_ *node, e *pebble.Stats) float64 {
		if e.NoSpace {
			return 1
		}
		return 0
	}),
}

// ownCollector collects ownMetrics.
type ownCollector struct{ n *node }

func (c ownCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range ownMetrics {
		ch <- m.desc
	}
}

func (c ownCollector) Collect(ch chan<- prometheus.Metric) {
	e := c.n.engine.Stats()
	for _, m := range ownMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(c.n, &e))
	}
}
