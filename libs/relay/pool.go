package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // the client's side of health checks
	"google.golang.org/grpc/keepalive"

	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/wire"
)

// Limits of the connections to a pool.
const (
	// connectTimeout bounds one attempt to connect. So it also bounds how long a call waits to learn that no pod is up.
	connectTimeout = 2 * time.Second
	// reconnectMin and reconnectMax bound the pause between two attempts.
	reconnectMin = 100 * time.Millisecond
	reconnectMax = 2 * time.Second
	// DefaultKeepalive is how long a connection may be silent before the pool sends a ping, and keepaliveTimeout how
	// long the answer may take. gRPC allows no less than 10 s.
	DefaultKeepalive = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// streamWindow bounds the bytes that one relayed stream may hold unread. connWindow bounds those of all streams of
	// a connection.
	streamWindow = 256 << 10
	connWindow   = 16 << 20
	// ioBuffer is the size of a connection's read and of its write buffer.
	ioBuffer = 64 << 10
)

// Service configs. Calls are spread over all connected pods, or over those that say SERVING.
const (
	connectedConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`
	servingConfig   = `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}`
)

// Options describe a Pool.
type Options struct {
	// Name is the kind of pod ("kv"), for errors and metrics.
	Name string
	// Endpoints are at least one of host:port, where host may be a name with several addresses, and unix://path. With
	// https:// or unixs:// the connection uses TLS, with http:// it does not.
	Endpoints []string
	// Credentials secure the connections, except those to endpoints whose scheme says that they do not use TLS; nil:
	// plain text. The certificate is checked against the endpoint's host.
	Credentials credentials.TransportCredentials
	// Keepalive is the time between pings on a silent connection (default DefaultKeepalive, which is the shortest). It
	// must not be shorter than what the pods allow their clients (--grpc-keepalive-min-time).
	Keepalive time.Duration
	// AnyHealth lets calls also go to pods that do not say SERVING.
	AnyHealth bool
	// Told, if set, is called with the context of each call. The function that it returns is called before an answer of
	// that call is relayed, with the revision in the answer's header, or with 0 if it has none. Both are called from
	// several goroutines and must return at once. Told may return nil.
	Told func(ctx context.Context) func(rev int64)

	lookup lookup // default: the system's
}

// Pool is a set of pods that own the same services. All methods may be called from any goroutine.
type Pool struct {
	name string
	conn *grpc.ClientConn
	told func(ctx context.Context) func(rev int64)

	ctx      context.Context // ends when the pool drains
	drain    context.CancelFunc
	forwards sync.WaitGroup // goroutines that read from clients
	streams  atomic.Int64   // that are open now
}

// NewPool returns a pool and starts to connect. It fails only if the options are invalid. If no pod is there, calls
// fail.
func NewPool(o Options) (*Pool, error) {
	endpoints, err := parseEndpoints(o.Endpoints)
	if err == nil && len(endpoints) == 0 {
		err = errors.New("no endpoints")
	}
	secured := false
	if err == nil {
		secured, err = allSecure(endpoints, o.Credentials != nil)
	}
	if err != nil {
		return nil, fmt.Errorf("relay: %s pods: %w", o.Name, err)
	}
	if !secured {
		o.Credentials = insecure.NewCredentials()
	}
	if o.lookup == nil {
		o.lookup = net.DefaultResolver.LookupHost
	}
	serviceConfig := servingConfig
	if o.AnyHealth {
		serviceConfig = connectedConfig
	}
	conn, err := grpc.NewClient(scheme+":///"+o.Name, append(
		tlsconf.PassOn(secured),
		grpc.WithResolvers(builder{endpoints: endpoints, lookup: o.lookup}),
		grpc.WithContextDialer(dial),
		grpc.WithNoProxy(),
		grpc.WithTransportCredentials(o.Credentials),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // ignore service configs from DNS
		grpc.WithIdleTimeout(0),         // connect before the first call, and stay connected
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  reconnectMin,
				Multiplier: 1.6,
				Jitter:     0.2,
				MaxDelay:   reconnectMax,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(
			keepalive.ClientParameters{
				Time:    max(cmp.Or(o.Keepalive, DefaultKeepalive), DefaultKeepalive),
				Timeout: keepaliveTimeout,
			},
		),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithReadBufferSize(ioBuffer),
		grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(wire.Codec{}),
			grpc.MaxCallRecvMsgSize(math.MaxInt32),
			grpc.MaxCallSendMsgSize(math.MaxInt32),
		),
	)...,
	)
	if err != nil {
		return nil, fmt.Errorf("relay: %s pods at %s: %w", o.Name, strings.Join(o.Endpoints, ","), err)
	}
	conn.Connect()
	p := &Pool{name: o.Name, conn: conn, told: func(ctx context.Context) func(int64) {
		if o.Told != nil {
			if told := o.Told(ctx); told != nil {
				return told
			}
		}
		return func(int64) {}
	}}
	p.ctx, p.drain = context.WithCancel(context.Background())
	return p, nil
}

// Conn returns a connection to the pool, for clients in this process. Only Close may close it.
func (p *Pool) Conn() grpc.ClientConnInterface { return p.conn }

// errDrained ends relayed streams, so that clients resume elsewhere.
var errDrained = rpctypes.ErrGRPCStopped

// Drain ends the relayed streams with Unavailable and refuses new ones. Unary calls go on.
func (p *Pool) Drain() { p.drain() }

// Close ends all calls and closes the connections. Before that, the servers on which the pool is registered must have
// stopped taking calls.
func (p *Pool) Close() error {
	p.drain()
	err := p.conn.Close()
	p.forwards.Wait()
	return err
}

// Ready says whether a pod is up.
func (p *Pool) Ready() bool { return p.conn.GetState() == connectivity.Ready }

var (
	poolLabels  = []string{"to"}
	descStreams = prometheus.NewDesc("headwater_relay_streams", "Streams that are being relayed.", poolLabels, nil)
	descReady   = prometheus.NewDesc("headwater_relay_ready", "1 while a pod to relay to is up.", poolLabels, nil)
)

// Collector shows the pools of a process as metrics.
type Collector []*Pool

// Describe implements prometheus.Collector.
func (c Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descStreams
	ch <- descReady
}

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c {
		ready := 0.0
		if p.Ready() {
			ready = 1
		}
		ch <- prometheus.MustNewConstMetric(descStreams, prometheus.GaugeValue, float64(p.streams.Load()), p.name)
		ch <- prometheus.MustNewConstMetric(descReady, prometheus.GaugeValue, ready, p.name)
	}
}
