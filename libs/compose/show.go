package compose

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/headwaterdb/headwater/libs/alarm"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/join"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tracing"
)

// raftTerm is the raft term in headers. There is no raft, and clients only compare the term.
const raftTerm = 2

// statsTimeout bounds the time that a scrape waits for the store.
const statsTimeout = time.Second

// header returns the header of answers of a member. The member id depends only on the cluster and the name, and fits a
// positive int64, in which some clients keep it.
func header(cluster uint64, name string) etcdapi.Header {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, cluster))
	h.Write([]byte(name))
	return etcdapi.Header{ClusterID: cluster, MemberID: binary.BigEndian.Uint64(h.Sum(nil))>>1 | 1, RaftTerm: raftTerm}
}

// newGRPC makes the gRPC server for c. local says that the process itself calls it too.
func newGRPC(c config.Config, local bool, tracer *tracing.Tracer, log *slog.Logger) *server.GRPC {
	o := server.GRPCOptions{
		MaxRequestBytes:       c.MaxRequestBytes,
		MaxConcurrentStreams:  c.MaxConcurrentStreams,
		KeepaliveMinTime:      c.KeepaliveMinTime,
		KeepaliveInterval:     c.KeepaliveInterval,
		KeepaliveTimeout:      c.KeepaliveTimeout,
		MaxConnectionAge:      c.MaxConnectionAge,
		MaxConnectionAgeGrace: c.MaxConnectionAgeGrace,
		SlowRequest:           c.WarningUnaryRequestDuration,
		Histograms:            c.ExtensiveMetrics,
		Local:                 local,
		Log:                   log,
	}
	if tracer != nil {
		o.Tracer = tracer // a nil *tracing.Tracer would not be a nil Tracer
	}
	return server.NewGRPC(o)
}

// watchLatency is the histogram of the time that events take through a hub.
type watchLatency struct{ *server.Latencies }

// newWatchLatency returns an empty histogram.
func newWatchLatency() watchLatency {
	return watchLatency{
		server.NewLatencies(
			"headwater_watch_latency_seconds",
			"Time from the commit of an event, or of the oldest that went with it to the same watch, to its handing "+
				"over to the stream; each event counts for each watch.",
			prometheus.ExponentialBuckets(0.0001, 2, 17), // 100 µs to 6.5 s
		),
	}
}

// show returns what the HTTP endpoints show of the process and its keyspaces.
func (s *keyspaces) show() server.HTTPOptions {
	k, c := s.first, s.d.Config
	id := identity(k.Header.MemberID)
	var ready []server.Check
	if k.d.Kind.IsPod() {
		ready = []server.Check{{Name: "serving", Run: k.d.ready.check}}
	}
	own := []prometheus.Collector{newKeyspaceCollector(s)}
	return server.HTTPOptions{
		Health:   health{k},
		Ready:    ready,
		Versions: versions,
		Metrics: server.NewRegistry(
			id,
			k.d.GRPC,
			k.stats,
			slices.Concat(k.collectors(), k.d.collectors(), own)...),
		Withhold:         s.many,
		Pprof:            c.EnablePprof,
		HostWhitelist:    c.HostWhitelist,
		CORS:             c.CORS,
		MaxConnectionAge: c.MaxConnectionAge,
		Log:              k.d.Log,
	}
}

// identity returns the labels of a member's metrics.
func identity(member uint64) server.Identity {
	return server.Identity{
		Version: etcdapi.EmulatedVersion, ClusterVersion: majorMinor(etcdapi.ClusterVersion), Build: server.Version,
		MemberID: member,
	}
}

// majorMinor returns 3.7 for 3.7.0, as etcd labels the version of a cluster.
func majorMinor(version string) string {
	if parts := strings.SplitN(version, ".", 3); len(parts) == 3 {
		return parts[0] + "." + parts[1]
	}
	return version
}

// metricsWhileAway are the metrics of a process that waits for its store: those that dashboards and alerts use, with no
// leader.
func (d *Deployment) metricsWhileAway() *prometheus.Registry {
	return server.NewRegistry(identity(0), nil, func() server.Stats {
		return server.Stats{NoLeader: true, Keys: -1, CompactRevision: -1}
	}, d.collectors()...)
}

// versions is the answer of /version.
var versions = server.Versions{
	Server: etcdapi.EmulatedVersion, Cluster: etcdapi.ClusterVersion, Storage: etcdapi.StorageVersion,
}

// collectors returns the metrics of the keyspace that etcd does not have.
func (k *Keyspace) collectors() []prometheus.Collector {
	all := []prometheus.Collector{
		storeCollector{k.Store.Usage()}, newWriteCollector(k.Store), alarmCollector{k.Alarms}, authCollector(k.Store),
	}
	for _, p := range k.parts {
		if p.collectors != nil {
			all = append(all, p.collectors()...)
		}
		if p.watch != nil {
			all = append(all, watchCollector(p.watch))
		}
	}
	return all
}

// authCollector shows the auth revision, as far as s knows it.
func authCollector(s *mvcc.Store) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "etcd_debugging_auth_revision", Help: "The current revision of auth store.",
	}, func() float64 { return float64(s.AuthNumber() >> 1) })
}

// alarmCollector shows alarms as etcd does: it shows nothing while there are none.
type alarmCollector struct{ alarms *alarm.State }

var descAlarms = prometheus.NewDesc(
	"etcd_debugging_server_alarms",
	"Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
	[]string{"server_id", "alarm_type"},
	nil,
)

// Describe implements prometheus.Collector.
func (c alarmCollector) Describe(ch chan<- *prometheus.Desc) { ch <- descAlarms }

// Collect implements prometheus.Collector.
func (c alarmCollector) Collect(ch chan<- prometheus.Metric) {
	for _, a := range c.alarms.Alarms() {
		id := strconv.FormatUint(a.GetMemberID(), 16)
		ch <- prometheus.MustNewConstMetric(descAlarms, prometheus.GaugeValue, 1, id, a.GetAlarm().String())
	}
}

// collectors returns the metrics that exist once per process.
func (d *Deployment) collectors() (all []prometheus.Collector) {
	all = append(all, d.tls.collector(), d.clearedCollector())
	if d.Kind.IsPod() {
		var pools relay.Collector
		for _, pool := range d.pools {
			pools = append(pools, pool)
		}
		all = append(all, pools)
		joined := new(join.Stats) // of a pod that joins no commits
		if d.joined != nil {
			joined = d.joined.Stats()
		}
		all = append(all, joinCollectors(joined)...)
	}
	if d.watchSends != nil {
		all = append(all, d.watchSends)
	}
	for _, part := range []any{d.Bus, d.Engine} {
		if c, ok := part.(prometheus.Collector); ok {
			all = append(all, c)
		}
	}
	return all
}

// health implements server.Health.
type health struct{ k *Keyspace }

// Read reads one key, which need not exist. If the row is damaged, the server still counts as healthy, because it
// answers. The check data_corruption reports damage.
func (h health) Read(ctx context.Context, serializable bool) error {
	_, err := h.k.Store.Range(
		ctx,
		&mvcc.RangeRequest{Key: []byte{0}, KeysOnly: true, Limit: 1, Serializable: serializable},
		func(*mvcc.KV) error { return nil },
	)
	if errors.Is(err, mvcc.ErrCorrupt) {
		return nil
	}
	return err
}

// Alarms returns the active alarms.
func (h health) Alarms() []*pb.AlarmMember { return h.k.Alarms.Alarms() }

// engineStats is an engine that has further numbers for etcd's metrics.
type engineStats interface{ AddStats(*server.Stats) }

// stats collects the numbers for etcd's metrics. If the store cannot be read, the head is 0.
func (k *Keyspace) stats() server.Stats {
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	head, err := k.Store.Head(ctx)
	if err != nil {
		head = 0
	}
	u := k.Store.Usage()
	s := server.Stats{
		Revision:        head,
		CompactRevision: k.Store.CompactRevision(),
		Ranges:          uint64(u.Ranges.Load()),
		Puts:            uint64(u.Puts.Load()),
		Deletes:         uint64(u.Deletes.Load()),
		Txns:            uint64(u.Txns.Load()),
		WritesCommitted: uint64(head),
	}
	for _, p := range k.parts {
		if p.watch != nil {
			w := p.watch()
			s.WatchStreams, s.Watchers, s.SlowWatchers = int64(w.Streams), int64(w.Watchers), int64(w.Lagging)
			s.PendingEvents, s.Events = int64(w.Pending), w.Events
		}
	}
	s.NoLeader = k.d.ready.away()
	s.Quota, s.Keys = k.quota(), k.keys(ctx)
	s.DBSize, s.DBSizeInUse = k.Store.Sizes()
	if e, ok := k.d.Engine.(engineStats); ok {
		e.AddStats(&s)
	}
	return s
}

// keys returns the number of keys; -1: not known.
func (k *Keyspace) keys(ctx context.Context) int64 {
	if k.d.Kind != config.Standalone && k.d.Kind != config.KV {
		return -1
	}
	n, ok, err := k.Store.Keys(ctx)
	if err != nil || !ok {
		return -1
	}
	return n
}

// storeMetric is a metric of the store that etcd does not have.
type storeMetric struct {
	desc  *prometheus.Desc
	value func(*mvcc.Usage) int64
}

var storeMetrics = []storeMetric{
	{
		prometheus.NewDesc("headwater_group_commits_total", "Group commits.", nil, nil),
		func(u *mvcc.Usage) int64 { return u.Groups.Load() },
	},
	{
		prometheus.NewDesc(
			"headwater_group_recent_total",
			"Groups that began on the version of this pod's last commit.",
			nil,
			nil,
		),
		func(u *mvcc.Usage) int64 { return u.Recent.Load() },
	},
	{
		prometheus.NewDesc(
			"headwater_group_outdated_total",
			"Those of them that were evaluated again on a fresh read version.",
			nil,
			nil,
		),
		func(u *mvcc.Usage) int64 { return u.Outdated.Load() },
	},
	{
		prometheus.NewDesc(
			"headwater_group_conflicts_total",
			"Group commits that met a conflict and ran again.",
			nil,
			nil,
		),
		func(u *mvcc.Usage) int64 { return u.Conflicts.Load() },
	},
	{
		prometheus.NewDesc(
			"headwater_damaged_total",
			"Times that a request or background work met data that cannot be read.",
			nil,
			nil,
		),
		func(u *mvcc.Usage) int64 { return u.Damaged.Load() },
	},
	{
		prometheus.NewDesc("headwater_compacted_entries_total", "Log entries removed after compactions.", nil, nil),
		func(u *mvcc.Usage) int64 { return u.CompactedEntries.Load() },
	},
}

// storeCollector collects the metrics of a store that etcd does not have.
type storeCollector struct{ usage *mvcc.Usage }

// Describe implements prometheus.Collector.
func (c storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range storeMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c storeCollector) Collect(ch chan<- prometheus.Metric) {
	for _, m := range storeMetrics {
		ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(c.usage)))
	}
}
