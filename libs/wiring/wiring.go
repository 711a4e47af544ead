package wiring

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/prometheus/client_golang/prometheus"
)

// raftTerm is what headers carry: there is no raft, and clients only compare it.
const raftTerm = 2

// statsTimeout bounds what a scrape waits for the store.
const statsTimeout = time.Second

// Header is the header of the answers of the member name of a cluster. Its member id is stable for the two, and fits a
// positive int64, in which some clients keep it.
func Header(cluster uint64, name string) etcdapi.Header {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, cluster))
	h.Write([]byte(name))
	return etcdapi.Header{ClusterID: cluster, MemberID: binary.BigEndian.Uint64(h.Sum(nil))>>1 | 1, RaftTerm: raftTerm}
}

// GRPC makes the gRPC server that c asks for.
func GRPC(c server.Config, log *slog.Logger) *server.GRPC {
	return server.NewGRPC(server.GRPCOptions{
		MaxRequestBytes:      c.MaxRequestBytes,
		MaxConcurrentStreams: c.MaxConcurrentStreams,
		KeepaliveMinTime:     c.KeepaliveMinTime,
		KeepaliveInterval:    c.KeepaliveInterval,
		KeepaliveTimeout:     c.KeepaliveTimeout,
		SlowRequest:          c.WarningUnaryRequestDuration,
		Histograms:           c.ExtensiveMetrics,
		Log:                  log,
	})
}

// KV are the bounds of requests that c asks for. A process asks once: they hold the account of all its answers.
func KV(c server.Config) etcdapi.KVOptions {
	return etcdapi.KVOptions{MaxTxnOps: c.MaxTxnOps, MaxRequestBytes: c.MaxRequestBytes, Answers: etcdapi.NewAnswers(c.MaxAnswerBytes)}
}

// Watch are the options of the hub that c asks for. sent is told of latencies.
func Watch(c server.Config, sent WatchLatency, log *slog.Logger) watch.Options {
	return watch.Options{
		RingBytes:         int(c.WatchHistoryBytes),
		ProgressInterval:  c.WatchProgressNotifyInterval,
		MaxStreams:        c.MaxWatchStreams,
		MaxWatches:        c.MaxWatches,
		MaxStreamsPerConn: c.MaxWatchStreamsPerConn,
		MaxWatchesPerConn: c.MaxWatchesPerConn,
		OnSent:            sent.Observe,
		Log:               log,
	}
}

// WatchLatency is the histogram of the time that events take through a hub.
type WatchLatency struct{ *server.Latencies }

// NewWatchLatency returns an empty histogram.
func NewWatchLatency() WatchLatency {
	return WatchLatency{server.NewLatencies(
		"headwater_watch_latency_seconds",
		"Time from the commit of an event, or of the oldest that went with it to the same watch, to its handing over to the stream; each event counts for each watch.",
		prometheus.ExponentialBuckets(0.0001, 2, 17), // 100 µs to 6.5 s
	)}
}

// Parts are what HTTP endpoints show.
type Parts struct {
	Header etcdapi.Header
	GRPC   *server.GRPC
	Store  *mvcc.Store
	// Alarms returns the active alarms; nil: none here.
	Alarms func() []*pb.AlarmMember
	// Watch returns the numbers of the watch hub; nil: none here.
	Watch func() watch.Stats
	// Engine adds the numbers of the engine; may be nil.
	Engine     func(*server.Stats)
	Collectors []prometheus.Collector
	Ready      []server.Check
}

// HTTP says what the HTTP endpoints show of p.
func HTTP(c server.Config, p Parts, log *slog.Logger) server.HTTPOptions {
	id := server.Identity{
		Version: etcdapi.EmulatedVersion, ClusterVersion: etcdapi.ClusterVersion,
		Build: server.Version, MemberID: p.Header.MemberID,
	}
	more := p.Collectors
	if p.Watch != nil {
		more = append(more, WatchCollector(p.Watch))
	}
	return server.HTTPOptions{
		Health:        health{p},
		Ready:         p.Ready,
		Versions:      server.Versions{Server: etcdapi.EmulatedVersion, Cluster: etcdapi.ClusterVersion, Storage: etcdapi.StorageVersion},
		Metrics:       server.NewRegistry(id, p.GRPC, p.stats, more...),
		Pprof:         c.EnablePprof,
		HostWhitelist: c.HostWhitelist,
		CORS:          c.CORS,
		Log:           log,
	}
}

// health implements server.Health.
type health struct{ p Parts }

// Read reads one key, which need not exist. That its place is damaged is no failure of the server, which answers: the
// check data_corruption tells of it.
func (h health) Read(ctx context.Context, serializable bool) error {
	_, err := h.p.Store.Range(ctx, &mvcc.RangeRequest{Key: []byte{0}, KeysOnly: true, Limit: 1, Serializable: serializable},
		func(*mvcc.KV) error { return nil })
	if errors.Is(err, mvcc.ErrCorrupt) {
		return nil
	}
	return err
}

// Alarms returns the active alarms.
func (h health) Alarms() []*pb.AlarmMember {
	if h.p.Alarms == nil {
		return nil
	}
	return h.p.Alarms()
}

// stats collects what etcd's metrics show. The head of a store that cannot be read is 0.
func (p Parts) stats() server.Stats {
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	head, err := p.Store.Head(ctx)
	if err != nil {
		head = 0
	}
	u := p.Store.Usage()
	s := server.Stats{
		Revision:        head,
		CompactRevision: p.Store.CompactRevision(),
		Ranges:          uint64(u.Ranges.Load()),
		Puts:            uint64(u.Puts.Load()),
		Deletes:         uint64(u.Deletes.Load()),
		Txns:            uint64(u.Txns.Load()),
		WritesCommitted: uint64(head),
	}
	if p.Watch != nil {
		w := p.Watch()
		s.WatchStreams, s.Watchers, s.SlowWatchers = int64(w.Streams), int64(w.Watchers), int64(w.Lagging)
		s.PendingEvents, s.Events = int64(w.Pending), w.Events
	}
	if p.Engine != nil {
		p.Engine(&s)
	}
	return s
}

// storeMetric is a metric of the store that etcd does not have.
type storeMetric struct {
	desc  *prometheus.Desc
	value func(*mvcc.Usage) int64
}

var storeMetrics = []storeMetric{
	{prometheus.NewDesc("headwater_group_commits_total", "Group commits.", nil, nil), func(u *mvcc.Usage) int64 { return u.Groups.Load() }},
	{prometheus.NewDesc("headwater_group_recent_total", "Groups that began on the version of this pod's last commit.", nil, nil), func(u *mvcc.Usage) int64 { return u.Recent.Load() }},
	{prometheus.NewDesc("headwater_group_outdated_total", "Those of them that were evaluated again on a fresh read version.", nil, nil), func(u *mvcc.Usage) int64 { return u.Outdated.Load() }},
	{prometheus.NewDesc("headwater_group_conflicts_total", "Group commits that met a conflict and ran again.", nil, nil), func(u *mvcc.Usage) int64 { return u.Conflicts.Load() }},
	{prometheus.NewDesc("headwater_damaged_total", "Times that a request or background work met data that cannot be read.", nil, nil), func(u *mvcc.Usage) int64 { return u.Damaged.Load() }},
	{prometheus.NewDesc("headwater_compacted_entries_total", "Log entries removed after compactions.", nil, nil), func(u *mvcc.Usage) int64 { return u.CompactedEntries.Load() }},
}

// StoreCollector collects the metrics of a store that etcd does not have.
type StoreCollector struct{ Usage *mvcc.Usage }

// Describe implements prometheus.Collector.
func (c StoreCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range storeMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c StoreCollector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range storeMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(c.Usage)))
	}
}

// LogFeatures says which features the rows of the keyspace have, and which of those that it could have are missing.
func LogFeatures(log *slog.Logger, f, able mvcc.Features) {
	log.Info("data format", "features", f.String())
	if missing := able &^ f; missing != 0 {
		log.Warn("the data was written by an earlier release and stays as that can read it; --activate-features=all sets what is new, for good",
			"inactive", missing.String())
	}
}
