package server

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Values of the label grpc_type (go-grpc-prometheus).
const (
	typeUnary        = "unary"
	typeClientStream = "client_stream"
	typeServerStream = "server_stream"
	typeBidiStream   = "bidi_stream"
)

func streamType(d grpc.StreamDesc) string {
	switch {
	case d.ClientStreams && d.ServerStreams:
		return typeBidiStream
	case d.ClientStreams:
		return typeClientStream
	}
	return typeServerStream
}

// codesMax is the number of gRPC status codes.
const codesMax = codes.Unauthenticated + 1

// method holds the counters of one gRPC method.
type method struct {
	service, name, kind string
	requestType         string // etcd's name of such requests; "": it measures none

	started        atomic.Uint64
	received, sent atomic.Uint64 // messages
	handled        [codesMax]atomic.Uint64
	seconds        prometheus.Histogram // nil unless wanted
}

func newMethod(service, name, kind string, histogram bool) *method {
	m := &method{service: service, name: name, kind: kind, requestType: requestTypes["/"+service+"/"+name]}
	if histogram {
		m.seconds = prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:        "grpc_server_handling_seconds",
			Help:        "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
			ConstLabels: prometheus.Labels{"grpc_service": service, "grpc_method": name, "grpc_type": kind},
			Buckets:     prometheus.DefBuckets,
		})
	}
	return m
}

// codeOf returns the code with which grpc-go answers a handler's error. A context that has ended has a code of its own.
func codeOf(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

func (m *method) finished(code codes.Code, took time.Duration) {
	m.handled[min(code, codesMax-1)].Add(1)
	if m.seconds != nil {
		m.seconds.Observe(took.Seconds())
	}
}

// Limits of the label client_api_version, which clients choose freely.
const (
	clientVersionsMax     = 64 // values
	clientVersionBytesMax = 32 // of one; clientv3 sends "3.7.3"
)

// otherVersions is the label of clients beyond these limits.
const otherVersions = "other"

// clientVersions counts requests by the version that clients send as metadata.
type clientVersions struct {
	byVersion atomic.Pointer[map[string]*clientRequests] // replaced as a whole
	mu        sync.Mutex                                 // of replacing
}

type clientRequests struct{ unary, stream atomic.Uint64 }

// of returns the counters of a version.
func (c *clientVersions) of(v string) *clientRequests {
	if len(v) > clientVersionBytesMax {
		v = otherVersions
	}
	if m := c.byVersion.Load(); m != nil {
		if r := (*m)[v]; r != nil {
			return r
		}
	}
	return c.add(v)
}

func (c *clientVersions) add(v string) *clientRequests {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]*clientRequests)
	if m := c.byVersion.Load(); m != nil {
		if len(*m) >= clientVersionsMax {
			v = otherVersions
		}
		if r := (*m)[v]; r != nil {
			return r
		}
		for k, r := range *m {
			next[k] = r
		}
	}
	r := &clientRequests{}
	next[strings.Clone(v)] = r // v is part of a header, which would stay in memory
	c.byVersion.Store(&next)
	return r
}

// unknownVersion is the label that etcd gives clients that send no version.
const unknownVersion = "unknown"

// tap sees the header of each request before the server does anything for it. It checks what etcd's interceptors check.
// etcd's third check, that there is a leader if the client asks for one, always passes here. tap is called while a lock
// of the connection is held.
func (g *GRPC) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	ver := unknownVersion
	if vs := info.Header[rpctypes.MetadataClientAPIVersionKey]; len(vs) > 0 {
		ver = vs[0]
		if !utf8.ValidString(ver) {
			return ctx, rpctypes.ErrGRPCInvalidClientAPIVersion
		}
	}
	m := g.byName[info.FullMethodName]
	switch r := g.clients.of(ver); {
	case m == nil: // grpc-go will answer Unimplemented
	case m.kind == typeUnary:
		r.unary.Add(1)
		ctx = g.bodies.expect(ctx)
	default:
		r.stream.Add(1)
		if m.kind == typeServerStream {
			ctx = g.bodies.expect(ctx)
		}
	}
	return ctx, nil
}

var (
	methodLabels = []string{"grpc_service", "grpc_method", "grpc_type"}

	descStarted = prometheus.NewDesc("grpc_server_started_total",
		"Total number of RPCs started on the server.", methodLabels, nil)
	descHandled = prometheus.NewDesc(
		"grpc_server_handled_total",
		"Total number of RPCs completed on the server, regardless of success or failure.",
		append(methodLabels, "grpc_code"),
		nil,
	)
	descSent = prometheus.NewDesc("etcd_network_client_grpc_sent_bytes_total",
		"The total number of bytes sent to grpc clients.", nil, nil)
	descReceived = prometheus.NewDesc("etcd_network_client_grpc_received_bytes_total",
		"The total number of bytes received from grpc clients.", nil, nil)
	descClients = prometheus.NewDesc("etcd_server_client_requests_total",
		"The total number of client requests per client version.", []string{"type", "client_api_version"}, nil)
)

// Describe implements prometheus.Collector.
func (g *GRPC) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descStarted, descHandled, descSent, descReceived, descClients, descMsgReceived, descMsgSent, descRequests, descRanges,
	} {
		ch <- d
	}
	for _, m := range g.methods {
		if m.seconds != nil {
			m.seconds.Describe(ch)
		}
	}
}

// Collect implements prometheus.Collector. It shows all codes from the start, as etcd does: a rate would miss the first
// value of a counter that appears only with it.
func (g *GRPC) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for _, m := range g.methods {
		counter(descStarted, m.started.Load(), m.service, m.name, m.kind)
		for code := range m.handled {
			counter(descHandled, m.handled[code].Load(), m.service, m.name, m.kind, codes.Code(code).String())
		}
		counter(descMsgReceived, m.received.Load(), m.service, m.name, m.kind)
		counter(descMsgSent, m.sent.Load(), m.service, m.name, m.kind)
		if m.seconds != nil {
			m.seconds.Collect(ch)
		}
	}
	for name, o := range g.requests {
		o.collect(ch, descRequests, name)
	}
	g.ranges.collect(ch, descRanges)
	counter(descSent, g.sent.Load())
	counter(descReceived, g.received.Load())
	if versions := g.clients.byVersion.Load(); versions != nil {
		for v, r := range *versions {
			counter(descClients, r.unary.Load(), "unary", v)
			counter(descClients, r.stream.Load(), "stream", v)
		}
	}
}
