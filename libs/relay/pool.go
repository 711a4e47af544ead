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
	// connectTimeout bounds one attempt to connect, and so how long a call can wait to learn that nobody is up.
	connectTimeout = 2 * time.Second
	// reconnectMin and reconnectMax bound the pause between two attempts.
	reconnectMin = 100 * time.Millisecond
	reconnectMax = 2 * time.Second
	// DefaultKeepalive is how long a connection may be silent before it is tried, keepaliveTimeout how long the
	// answer may take. gRPC allows no less than 10 s.
	DefaultKeepalive = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
	// streamWindow bounds what one relayed stream may hold unread, connWindow what all of a connection may have on
	// the way.
	streamWindow = 256 << 10
	connWindow   = 16 << 20
	// ioBuffer is the size of a connection's read and of its write buffer.
	ioBuffer = 64 << 10
)

// Service configs: calls are spread over all pods that are connected, and that say SERVING.
const (
	connectedConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`
	servingConfig   = `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}`
)

// Options describe a Pool.
type Options struct {
	// Name is the kind of pod ("kv"), for errors and metrics.
	Name string
	// Endpoints are host:port, where the host may be a name with several addresses, or unix://path; at least one. With
	// https:// or unixs:// they have TLS, with http:// they have none.
	Endpoints []string
	// Credentials secure the connections, but for those to endpoints whose scheme says that they have no TLS; nil:
	// plain text. The name that a certificate is checked against is the endpoint's host.
	Credentials credentials.TransportCredentials
	// Keepalive is the time between pings on a silent connection (default DefaultKeepalive, which is the least). It
	// must not be shorter than what the pods allow their clients (--grpc-keepalive-min-time).
	Keepalive time.Duration
	// AnyHealth makes calls go to pods that do not say SERVING as well.
	AnyHealth bool
	// Told, if set, is called with the context of each call and returns what is told of the header revisions of the
	// answers that are relayed for it, before they are, and of 0 for those that have none: by several goroutines. Both
	// must return at once. It may return nil.
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
	streams  atomic.Int64   // open now
}

// NewPool returns a pool and starts to connect. It fails only for options that make no sense; whether a pod is there,
// calls find out.
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
		grpc.WithDisableServiceConfig(), // none from outside
		grpc.WithIdleTimeout(0),         // connected before the first call, and stays so
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

// Conn is a connection to the pool, for clients that are of this process. It must not be closed but by Close.
func (p *Pool) Conn() grpc.ClientConnInterface { return p.conn }

// errDrained ends relayed streams; clients resume elsewhere.
var errDrained = rpctypes.ErrGRPCStopped

// Drain ends the relayed streams with Unavailable and refuses new ones. Unary calls go on.
func (p *Pool) Drain() { p.drain() }

// Close ends all calls and closes the connections. The servers on which the pool is registered must have stopped
// taking calls.
func (p *Pool) Close() error {
	p.drain()
	err := p.conn.Close()
	p.forwards.Wait()
	return err
}

// Ready reports whether a pod is up.
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
