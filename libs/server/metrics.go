package server

import (
	"fmt"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Stats are the numbers behind etcd's metrics, read once per scrape. Counters count from the start of the process.
type Stats struct {
	Revision, CompactRevision int64 // CompactRevision -1: never compacted

	Ranges, Puts, Deletes, Txns uint64 // requests; operations inside transactions count as well, as in etcd
	OpenReads                   int64  // engine transactions under way

	WritesCommitted uint64 // grows with every write
	WritesPending   int64  // committed but not durable yet

	DBSize, DBSizeInUse, Quota int64 // bytes; Quota 0: none

	Keys     int64 // of the latest revision; negative: not known
	NoLeader bool  // the store cannot be reached or has failed

	WatchStreams, Watchers, SlowWatchers, PendingEvents int64
	Events                                              uint64 // sent
}

// DiskMetrics are etcd's histograms of the disk. NewRegistry registers them.
type DiskMetrics struct{ walSync, commit prometheus.Histogram }

// NewDiskMetrics returns histograms with etcd's names and buckets (1 ms to 8.192 s).
func NewDiskMetrics() *DiskMetrics {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)})
	}
	return &DiskMetrics{
		walSync: histogram("etcd_disk_wal_fsync_duration_seconds", "The latency distributions of fsync called by WAL."),
		commit:  histogram("etcd_disk_backend_commit_duration_seconds", "The latency distributions of commit called by backend."),
	}
}

// WALSync records one sync of the write-ahead log.
func (d *DiskMetrics) WALSync(took time.Duration) { d.walSync.Observe(took.Seconds()) }

// Commit records one group commit, from its start to durability.
func (d *DiskMetrics) Commit(took time.Duration) { d.commit.Observe(took.Seconds()) }

// Describe implements prometheus.Collector.
func (d *DiskMetrics) Describe(ch chan<- *prometheus.Desc) {
	d.walSync.Describe(ch)
	d.commit.Describe(ch)
}

// Collect implements prometheus.Collector.
func (d *DiskMetrics) Collect(ch chan<- prometheus.Metric) {
	d.walSync.Collect(ch)
	d.commit.Collect(ch)
}

// Identity has the labels of the constant metrics.
type Identity struct {
	Version, ClusterVersion string // etcd's
	Build                   string // Headwater's own version
	MemberID                uint64 // 0: not known yet
}

// statMetric is one metric with etcd's name and help.
type statMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Stats) float64
	// there says whether the number exists; nil: always.
	there func(*Stats) bool
}

// when shows the metric only if the number exists.
func (m statMetric) when(there func(*Stats) bool) statMetric {
	m.there = there
	return m
}

func gauge(name, help string, value func(*Stats) float64) statMetric {
	return statMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, value, nil}
}

func counter(name, help string, value func(*Stats) float64) statMetric {
	return statMetric{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, value, nil}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func always(v float64) func(*Stats) float64 { return func(*Stats) float64 { return v } }

// statMetrics are the metrics of etcd that have a meaning here, or that alerts need. docs/compatibility.md lists those
// that are left out, with reasons.
//
// etcd_server_proposals_failed_total is always 0: a write that fails without an error of its own ends the process.
//
// Package lease has the metrics of leases (etcd_debugging_lease_*), as a collector of its own.
var statMetrics = []statMetric{
	gauge("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", func(s *Stats) float64 { return number(!s.NoLeader) }),
	gauge("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", func(s *Stats) float64 { return number(!s.NoLeader) }),
	gauge("etcd_server_is_learner", "Whether or not this member is a learner. 1 if is, 0 otherwise.", always(0)),
	counter("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", always(1)),
	gauge("etcd_server_proposals_committed_total", "The total number of consensus proposals committed.", func(s *Stats) float64 { return float64(s.WritesCommitted) }),
	gauge("etcd_server_proposals_applied_total", "The total number of consensus proposals applied.", func(s *Stats) float64 { return float64(s.WritesCommitted) }),
	gauge("etcd_server_proposals_pending", "The current number of pending proposals to commit.", func(s *Stats) float64 { return float64(s.WritesPending) }),
	counter("etcd_server_proposals_failed_total", "The total number of failed proposals seen.", always(0)),
	gauge("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", func(s *Stats) float64 { return float64(s.Quota) }).when(func(s *Stats) bool { return s.Quota > 0 }),

	counter("etcd_mvcc_range_total", "Total number of ranges seen by this member.", func(s *Stats) float64 { return float64(s.Ranges) }),
	counter("etcd_mvcc_put_total", "Total number of puts seen by this member.", func(s *Stats) float64 { return float64(s.Puts) }),
	counter("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", func(s *Stats) float64 { return float64(s.Deletes) }),
	counter("etcd_mvcc_txn_total", "Total number of txns seen by this member.", func(s *Stats) float64 { return float64(s.Txns) }),
	gauge("etcd_mvcc_db_total_size_in_bytes", "Total size of the underlying database physically allocated in bytes.", func(s *Stats) float64 { return float64(s.DBSize) }),
	gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Total size of the underlying database logically in use in bytes.", func(s *Stats) float64 { return float64(s.DBSizeInUse) }),
	gauge("etcd_mvcc_db_open_read_transactions", "The number of currently open read transactions", func(s *Stats) float64 { return float64(s.OpenReads) }),

	gauge("etcd_debugging_mvcc_keys_total", "Total number of keys.", func(s *Stats) float64 { return float64(s.Keys) }).when(func(s *Stats) bool { return s.Keys >= 0 }),
	gauge("etcd_debugging_mvcc_current_revision", "The current revision of store.", func(s *Stats) float64 { return float64(s.Revision) }),
	gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.", func(s *Stats) float64 { return float64(s.CompactRevision) }),
	gauge("etcd_debugging_mvcc_watch_stream_total", "Total number of watch streams.", func(s *Stats) float64 { return float64(s.WatchStreams) }),
	gauge("etcd_debugging_mvcc_watcher_total", "Total number of watchers.", func(s *Stats) float64 { return float64(s.Watchers) }),
	gauge("etcd_debugging_mvcc_slow_watcher_total", "Total number of unsynced slow watchers.", func(s *Stats) float64 { return float64(s.SlowWatchers) }),
	gauge("etcd_debugging_mvcc_pending_events_total", "Total number of pending events to be sent.", func(s *Stats) float64 { return float64(s.PendingEvents) }),
	counter("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.", func(s *Stats) float64 { return float64(s.Events) }),
}

// statsCollector turns Stats into metrics.
type statsCollector struct{ stats func() Stats }

func (c statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range statMetrics {
		ch <- m.desc
	}
}

func (c statsCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	for _, m := range statMetrics {
		if m.there != nil && !m.there(&s) {
			continue
		}
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s))
	}
}

// NewRegistry returns a registry with the metrics of the process, of Go and of gRPC (g is nil: no gRPC yet), etcd's
// metrics from stats, and further collectors.
func NewRegistry(id Identity, g *GRPC, stats func() Stats, more ...prometheus.Collector) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(files{}, statsCollector{stats})
	if g != nil {
		r.MustRegister(g)
	}
	for _, l := range []struct{ name, help, label, value string }{
		{"etcd_server_version", "Which version is running. 1 for 'server_version' label with current version.", "server_version", id.Version},
		{"etcd_cluster_version", "Which version is running. 1 for 'cluster_version' label with current cluster version", "cluster_version", id.ClusterVersion},
		{"etcd_server_go_version", "Which Go version server is running with. 1 for 'server_go_version' label with current version.", "server_go_version", runtime.Version()},
		{"etcd_server_id", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.", "server_id", fmt.Sprintf("%x", id.MemberID)},
		{"headwater_build_info", "Version of Headwater. Always 1.", "version", id.Build},
	} {
		if l.name == "etcd_server_id" && id.MemberID == 0 {
			continue
		}
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: l.name, Help: l.help, ConstLabels: prometheus.Labels{l.label: l.value}})
		g.Set(1)
		r.MustRegister(g)
	}
	r.MustRegister(more...)
	return r
}
