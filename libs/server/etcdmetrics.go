package server

import (
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/histogram"
)

// Buckets of etcd's histograms.
var (
	etcdBuckets      = prometheus.ExponentialBuckets(0.001, 2, 14)  // 1 ms to 8.192 s
	etcdRangeBuckets = prometheus.ExponentialBuckets(0.0001, 2, 20) // 0.1 ms to 52.4288 s
)

// requestTypes are the values of etcd's label type, by the gRPC method of the request.
var requestTypes = map[string]string{
	"/etcdserverpb.KV/Range":                  "Range",
	"/etcdserverpb.KV/Put":                    "Put",
	"/etcdserverpb.KV/DeleteRange":            "DeleteRange",
	"/etcdserverpb.KV/Txn":                    "Txn",
	"/etcdserverpb.KV/Compact":                "Compaction",
	"/etcdserverpb.Lease/LeaseGrant":          "LeaseGrant",
	"/etcdserverpb.Lease/LeaseRevoke":         "LeaseRevoke",
	"/etcdserverpb.Maintenance/Alarm":         "Alarm",
	"/etcdserverpb.Auth/Authenticate":         "Authenticate",
	"/etcdserverpb.Auth/AuthEnable":           "AuthEnable",
	"/etcdserverpb.Auth/AuthDisable":          "AuthDisable",
	"/etcdserverpb.Auth/AuthStatus":           "AuthStatus",
	"/etcdserverpb.Auth/UserAdd":              "AuthUserAdd",
	"/etcdserverpb.Auth/UserDelete":           "AuthUserDelete",
	"/etcdserverpb.Auth/UserGet":              "AuthUserGet",
	"/etcdserverpb.Auth/UserList":             "AuthUserList",
	"/etcdserverpb.Auth/UserGrantRole":        "AuthUserGrantRole",
	"/etcdserverpb.Auth/UserRevokeRole":       "AuthUserRevokeRole",
	"/etcdserverpb.Auth/RoleAdd":              "AuthRoleAdd",
	"/etcdserverpb.Auth/RoleDelete":           "AuthRoleDelete",
	"/etcdserverpb.Auth/RoleGet":              "AuthRoleGet",
	"/etcdserverpb.Auth/RoleList":             "AuthRoleList",
	"/etcdserverpb.Auth/RoleGrantPermission":  "AuthRoleGrantPermission",
	"/etcdserverpb.Auth/RoleRevokePermission": "AuthRoleRevokePermission",
	"/etcdserverpb.Auth/UserChangePassword":   "AuthUserChangePassword",
}

// typeReadonlyTxn is the type of a transaction that cannot write, whatever its compares give.
const typeReadonlyTxn = "ReadonlyTxn"

// writer is a decoded request that knows whether it may write.
type writer interface{ Writes() bool }

// outcomes are two histograms: of requests that succeeded, and of those that failed. A nil outcomes observes nothing.
type outcomes [2]*histogram.Histogram

func newOutcomes(bounds []float64) *outcomes {
	nanos := nanoseconds(bounds)
	return &outcomes{histogram.New(nanos...), histogram.New(nanos...)}
}

func (o *outcomes) took(d time.Duration, success bool) {
	if o == nil {
		return
	}
	i := 0
	if success {
		i = 1
	}
	o[i].Took(d)
}

// collect shows what has been observed. Like a vector of Prometheus, it shows only labels that have occurred.
func (o *outcomes) collect(ch chan<- prometheus.Metric, desc *prometheus.Desc, labels ...string) {
	for i, h := range o {
		if h.Read().Count > 0 {
			shown := &Histogram{desc: desc, unit: 1 / float64(time.Second), values: h}
			shown.collect(ch, append(labels, strconv.FormatBool(i == 1))...)
		}
	}
}

var (
	descRequests = prometheus.NewDesc("etcd_server_request_duration_seconds",
		"Response latency distribution in seconds for each type.", []string{"type", "success"}, nil)
	descRanges = prometheus.NewDesc("etcd_server_range_duration_seconds",
		"The latency distributions of txn.Range", []string{"success"}, nil)
	descMsgReceived = prometheus.NewDesc("grpc_server_msg_received_total",
		"Total number of RPC stream messages received on the server.", methodLabels, nil)
	descMsgSent = prometheus.NewDesc("grpc_server_msg_sent_total",
		"Total number of gRPC stream messages sent by the server.", methodLabels, nil)
	descFDUsed  = prometheus.NewDesc("os_fd_used", "The number of used file descriptors.", nil, nil)
	descFDLimit = prometheus.NewDesc("os_fd_limit", "The file descriptor limit.", nil, nil)
)

// countedStream counts the messages of a stream. AddSent counts those that are sent past it.
type countedStream struct {
	grpc.ServerStream
	m *method
}

// Unwrapped returns the wrapped stream, for code that sends past this one.
func (s *countedStream) Unwrapped() grpc.ServerStream { return s.ServerStream }

// SendMsg implements grpc.ServerStream.
func (s *countedStream) SendMsg(m any) error {
	err := s.ServerStream.SendMsg(m)
	if err == nil {
		s.m.sent.Add(1)
	}
	return err
}

// RecvMsg implements grpc.ServerStream.
func (s *countedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil {
		s.m.received.Add(1)
	}
	return err
}

// files are etcd's metrics of file descriptors, on systems that report them.
type files struct{}

// Describe implements prometheus.Collector.
func (files) Describe(ch chan<- *prometheus.Desc) { ch <- descFDUsed; ch <- descFDLimit }

// Collect implements prometheus.Collector.
func (files) Collect(ch chan<- prometheus.Metric) {
	if used, err := os.ReadDir("/proc/self/fd"); err == nil {
		n := len(used) - 1 // one reads the list
		ch <- prometheus.MustNewConstMetric(descFDUsed, prometheus.GaugeValue, float64(n))
	}
	if limit := openFilesLimit(); limit > 0 {
		ch <- prometheus.MustNewConstMetric(descFDLimit, prometheus.GaugeValue, float64(limit))
	}
}

// WatchSends are etcd's histograms of the time to send watch responses.
type WatchSends struct{ events, perEvent, control, progress *Latencies }

// NewWatchSends returns empty histograms.
func NewWatchSends() *WatchSends {
	latencies := func(name, help string) *Latencies {
		return NewLatencies("etcd_debugging_server_watch_send_loop_"+name+"_seconds", help, etcdBuckets)
	}
	return &WatchSends{
		events: latencies("watch_stream_duration",
			"The total duration in seconds of running through the send loop watch stream response all events."),
		perEvent: latencies("watch_stream_duration_per_event",
			"The average duration in seconds of running through the send loop watch stream response, per event."),
		control: latencies("control_stream_duration",
			"The total duration in seconds of running through the send loop control stream response."),
		progress: latencies("progress_duration",
			"The total duration in seconds of running through the progress loop control stream response."),
	}
}

// Sent records the time of one write of several responses. It may be called from any goroutine, also with a nil w.
func (w *WatchSends) Sent(took time.Duration, events, control, progress int) {
	if w == nil {
		return
	}
	if events > 0 {
		w.events.Observe(1, took)
		w.perEvent.Observe(1, took/time.Duration(events))
	}
	if control > 0 {
		w.control.Observe(1, took)
	}
	if progress > 0 {
		w.progress.Observe(1, took)
	}
}

// Describe implements prometheus.Collector.
func (w *WatchSends) Describe(ch chan<- *prometheus.Desc) {
	for _, l := range []*Latencies{w.events, w.perEvent, w.control, w.progress} {
		l.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (w *WatchSends) Collect(ch chan<- prometheus.Metric) {
	for _, l := range []*Latencies{w.events, w.perEvent, w.control, w.progress} {
		l.Collect(ch)
	}
}

// typeOf returns etcd's type of a request that has been decoded as v. "": etcd has no type for it.
func (m *method) typeOf(v any) string {
	if w, ok := v.(writer); ok && m.requestType == "Txn" && !w.Writes() {
		return typeReadonlyTxn
	}
	return m.requestType
}

// observe records the time of a unary request, without the time in which its body was received.
func (g *GRPC) observe(requestType string, took time.Duration, success bool) {
	if requestType == "" {
		return
	}
	g.requests[requestType].took(took, success)
	if requestType == "Range" {
		g.ranges.took(took, success)
	}
}
