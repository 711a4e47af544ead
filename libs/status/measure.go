package status

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// worksMax bounds the compactions that are shown, and the deletions.
const worksMax = 20

// measure fills in the numbers that come from metrics.
func (o *Overview) measure(s span, past []Rates) {
	n := s.to.number
	o.Store = Store{
		Revision:        n("etcd_debugging_mvcc_current_revision"),
		CompactRevision: n("etcd_debugging_mvcc_compact_revision"),
		Keys:            s.to.orElse(-1, "etcd_debugging_mvcc_keys_total"),
		Bytes:           n("etcd_mvcc_db_total_size_in_bytes"),
		BytesInUse:      n("etcd_mvcc_db_total_size_in_use_in_bytes"),
		Quota:           n("etcd_server_quota_backend_bytes"),
		DiskFree:        s.to.orElse(-1, "headwater_disk_free_bytes"),
		DiskFull:        n("headwater_disk_full") != 0,
	}
	o.Rates, o.History = s.rates(), past
	o.Watches = Watches{
		Streams:  n("etcd_debugging_mvcc_watch_stream_total"),
		Watchers: n("etcd_debugging_mvcc_watcher_total"),
		Slow:     n("etcd_debugging_mvcc_slow_watcher_total"),
		Pending:  n("etcd_debugging_mvcc_pending_events_total"),
	}
	o.Watches.LagSeconds, _ = s.to.value("headwater_watch_lag_seconds")
	o.Leases = Leases{
		Active:  n("headwater_lease_active"),
		Granted: s.rate("etcd_debugging_lease_granted_total"),
		Renewed: s.rate("etcd_debugging_lease_renewed_total"),
		Expired: s.rate("etcd_debugging_server_lease_expired_total"),
	}
	o.Latencies = s.latencies()
	o.Alarms, o.Certificates = s.to.alarms(), s.to.certificates()
}

// orElse returns a metric as a number, or other if there is no such metric.
func (s sample) orElse(other int64, name string) int64 {
	if v, ok := s.value(name); ok {
		return int64(v)
	}
	return other
}

// rates returns the rates of the calls to the process.
func (s span) rates() Rates {
	calls := func(method string) *float64 {
		return s.rate("grpc_server_handled_total", "grpc_service", "etcdserverpb.KV", "grpc_method", method)
	}
	r := Rates{
		Reads:  calls("Range"),
		Writes: sum(sum(calls("Put"), calls("DeleteRange")), calls("Txn")),
		Events: s.rate("etcd_debugging_mvcc_events_total"),
	}
	if all := s.rate("grpc_server_handled_total"); all != nil {
		ok := s.rate("grpc_server_handled_total", "grpc_code", "OK")
		// A watch that its client has canceled is not an error.
		canceled := s.rate("grpc_server_handled_total", "grpc_code", "Canceled")
		errs := max(*all-*ok-*canceled, 0)
		r.Errors = &errs
	}
	return r
}

func sum(a, b *float64) *float64 {
	if a == nil || b == nil {
		return nil
	}
	both := *a + *b
	return &both
}

// Latency is a histogram of durations in seconds.
type Latency struct {
	Name string `json:"name"`
	// Of says in words what takes that long.
	Of    string  `json:"of"`
	Count int64   `json:"count"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	// Bars are the shares of the buckets, the fastest first. Bounds are their upper bounds; the last bucket has none.
	Bars   []float64 `json:"bars"`
	Bounds []float64 `json:"bounds"`
}

// shownLatencies are the histograms that are shown if they exist.
var shownLatencies = []struct{ of, metric, label, value string }{
	{"Get, list", "etcd_server_request_duration_seconds", "type", "Range"},
	{"Put", "etcd_server_request_duration_seconds", "type", "Put"},
	{"Delete", "etcd_server_request_duration_seconds", "type", "DeleteRange"},
	{"Transaction", "etcd_server_request_duration_seconds", "type", "Txn"},
	{"Grant of a lease", "etcd_server_request_duration_seconds", "type", "LeaseGrant"},
	{"Event, commit to stream", "headwater_watch_latency_seconds", "", ""},
	{"Wait for a group", "headwater_write_wait_seconds", "", ""},
	{"Group evaluation", "headwater_group_evaluation_seconds", "", ""},
	{"Group commit", "headwater_group_commit_seconds", "", ""},
	{"Sync of the log", "etcd_disk_wal_fsync_duration_seconds", "", ""},
}

func (s span) latencies() []Latency {
	all := []Latency{}
	for _, l := range shownLatencies {
		var labels []string
		name := l.metric
		if l.label != "" {
			labels = []string{l.label, l.value}
			name += "{" + l.label + "=" + strconv.Quote(l.value) + "}"
		}
		b := s.buckets(l.metric, labels...)
		n := count(b)
		if n == 0 {
			continue
		}
		one := Latency{
			Name: name, Of: l.of, Count: int64(n), P50: quantile(.5, b), P90: quantile(.9, b), P99: quantile(.99, b),
		}
		for i, bucket := range b {
			one.Bars = append(one.Bars, bucket.count/n)
			if i < len(b)-1 {
				one.Bounds = append(one.Bounds, bucket.bound)
			}
		}
		all = append(all, one)
	}
	return all
}

// alarms returns the active alarms.
func (s sample) alarms() []Alarm {
	all := []Alarm{}
	for _, m := range s.families["etcd_debugging_server_alarms"].GetMetric() {
		if m.GetGauge().GetValue() != 0 {
			all = append(all, Alarm{Type: labelOf(m, "alarm_type"), Member: labelOf(m, "server_id")})
		}
	}
	return all
}

// certificates returns the process's certificates, the one that expires first in front.
func (s sample) certificates() []Certificate {
	all := []Certificate{}
	for _, m := range s.families["headwater_tls_expiry_days"].GetMetric() {
		all = append(all, Certificate{labelOf(m, "use"), labelOf(m, "kind"), m.GetGauge().GetValue()})
	}
	slices.SortFunc(all, func(a, b Certificate) int {
		return cmp.Or(cmp.Compare(a.Days, b.Days), strings.Compare(a.Use+a.Kind, b.Use+b.Kind))
	})
	return all
}

// work fills in the work in the background.
func (o *Overview) work(c *counted, s span) {
	o.Work = []Work{}
	if c != nil {
		for i := range c.all {
			k := &c.all[i]
			if k.RemovedRevision >= k.CompactRevision || len(o.Work) == worksMax {
				continue
			}
			o.Work = append(o.Work, Work{
				Kind: "compaction", Keyspace: k.Name, Done: max(k.RemovedRevision, 0), Total: k.CompactRevision,
				Unit: "revisions", PerSecond: k.RemovedPerSecond,
			})
		}
		for i := range min(len(c.deletions), worksMax) {
			d := &c.deletions[i]
			o.Work = append(o.Work, Work{
				Kind: "deletion", Keyspace: d.Keyspace, Since: &d.Since,
				Done: s.to.number("headwater_keyspaces_cleared_rows_total"), Unit: "rows",
				PerSecond: s.rate("headwater_keyspaces_cleared_rows_total"),
			})
		}
	}
	o.reclaims(s)
}

// reclaimMin is the number of bytes from which on space that is to be reclaimed is shown.
const reclaimMin = 1 << 20

// reclaims reports the space that the store has not given back yet.
func (o *Overview) reclaims(s span) {
	for _, name := range []string{"headwater_store_garbage_bytes", "headwater_store_compaction_debt_bytes"} {
		if n := s.to.number(name); n >= reclaimMin {
			o.Work = append(o.Work, Work{Kind: "reclaim", Done: n, Unit: "bytes left"})
			return
		}
	}
}
