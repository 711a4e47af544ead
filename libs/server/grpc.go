package server

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"

	"github.com/headwaterdb/headwater/libs/timing"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/wire"
)

// Limits and sizes of the gRPC server.
const (
	// requestOverhead is how many bytes a message may have beyond --max-request-bytes (etcd's grpcOverheadBytes).
	requestOverhead = 512 << 10
	// streamWindow and connWindow are the flow-control windows for what clients send. Fixed windows avoid the pings of
	// the bandwidth estimator. A whole request of default size fits into a stream's window.
	streamWindow = 2 << 20
	connWindow   = 16 << 20
	// ioBuffer is the size of a connection's read buffer and of its write buffer. Read buffers are returned while a
	// connection is idle. Write buffers are shared by connections.
	ioBuffer = 64 << 10
	// streamWorkers is how many goroutines are kept for requests, because their stacks have grown already. Requests
	// beyond that number get goroutines of their own.
	streamWorkers = 256
	// headerListMax bounds the header of a request (RFC 9113, 10.5.1: names, values, and 32 bytes for each). Tokens and
	// traces of real clients take a few kilobytes. HTTP/1 has the same limit.
	headerListMax = httpHeaderBytesMax
)

// GRPCOptions are the limits of the gRPC server. They are those of etcd's flags of the same names.
type GRPCOptions struct {
	MaxRequestBytes      int
	MaxConcurrentStreams uint32
	KeepaliveMinTime     time.Duration
	KeepaliveInterval    time.Duration // 0: no pings
	KeepaliveTimeout     time.Duration // 0: no pings
	// MaxConnectionAge is the age, plus or minus a tenth, at which a connection takes no new calls, so that its client
	// connects again (GOAWAY). After another MaxConnectionAgeGrace its remaining calls end with Unavailable. 0: no
	// limit.
	MaxConnectionAge, MaxConnectionAgeGrace time.Duration
	// SlowRequest is the duration from which a unary request is logged; 0: never.
	SlowRequest time.Duration
	// Histograms adds grpc_server_handling_seconds (--metrics=extensive).
	Histograms bool
	// Local asks for a connection over memory to the same services (GRPC.Local).
	Local  bool
	Tracer Tracer // nil: no tracing
	Log    *slog.Logger
}

// Tracer makes spans of requests.
type Tracer interface {
	// ServerOption returns the option with which the server begins and ends spans.
	ServerOption() grpc.ServerOption
	// Ended is called when the handler of a unary request has returned. The request began at begin.
	Ended(ctx context.Context, begin time.Time)
}

// GRPC is the native gRPC server with its counters. It is a grpc.ServiceRegistrar. All services must be registered
// before it serves.
type GRPC struct {
	server  *grpc.Server
	local   *Local // nil: none
	health  *health.Server
	options GRPCOptions
	methods []*method
	byName  map[string]*method // by full name
	clients clientVersions
	bodies  *bodies

	sent, received atomic.Uint64 // message bytes

	requests map[string]*outcomes // by etcd's type of request
	ranges   *outcomes

	draining context.Context
	drain    context.CancelFunc
}

// NewGRPC returns a server on which grpc.health.v1 is registered. It says NOT_SERVING until SetServing.
func NewGRPC(o GRPCOptions) *GRPC {
	g := &GRPC{
		options: o,
		byName:  make(map[string]*method),
		health:  health.NewServer(),
		bodies:  newBodies(o.MaxRequestBytes + requestOverhead),
	}
	g.requests = map[string]*outcomes{typeReadonlyTxn: newOutcomes(etcdBuckets)}
	g.ranges = newOutcomes(etcdRangeBuckets)
	for _, name := range requestTypes {
		g.requests[name] = newOutcomes(etcdBuckets)
	}
	g.draining, g.drain = context.WithCancel(context.Background())
	shared := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{sent: &g.sent, received: &g.received}),
		grpc.MaxRecvMsgSize(o.MaxRequestBytes + requestOverhead),
		grpc.MaxSendMsgSize(math.MaxInt32),
		experimental.BufferPool(g.bodies.pool),
	}
	if o.Tracer != nil {
		shared = append(shared, o.Tracer.ServerOption())
	}
	if o.Local {
		g.local = newLocal(g, shared...)
	}
	opts := append(slices.Clip(shared),
		grpc.Creds(tlsconf.ServerCredentials()),
		grpc.InTapHandle(g.tap),
		grpc.MaxHeaderListSize(headerListMax),
		grpc.MaxConcurrentStreams(o.MaxConcurrentStreams),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ReadBufferSize(ioBuffer),
		grpc.WriteBufferSize(ioBuffer),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.ConnectionTimeout(sniffTimeout),
	)
	if o.KeepaliveMinTime > 0 {
		opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.KeepaliveMinTime}))
	}
	params := keepalive.ServerParameters{
		MaxConnectionAge:      o.MaxConnectionAge,
		MaxConnectionAgeGrace: o.MaxConnectionAgeGrace,
	}
	if o.KeepaliveInterval > 0 && o.KeepaliveTimeout > 0 {
		params.Time, params.Timeout = o.KeepaliveInterval, o.KeepaliveTimeout
	}
	if params != (keepalive.ServerParameters{}) {
		opts = append(opts, grpc.KeepaliveParams(params))
	}
	g.server = grpc.NewServer(opts...)
	healthpb.RegisterHealthServer(g, g.health)
	g.SetServing(false)
	return g
}

// AddSent counts messages of a method that were sent past the codec and the stream (wire.MessageWriter). bytes is their
// total size.
func (g *GRPC) AddSent(fullMethod string, messages, bytes int) {
	g.sent.Add(uint64(bytes))
	if m := g.byName[fullMethod]; m != nil {
		m.sent.Add(uint64(messages))
	}
}

// Close stops a server at once. The server need not have served.
func (g *GRPC) Close() {
	g.drain()
	g.server.Stop()
	if g.local != nil {
		g.local.close()
	}
}

// Local returns the connection over memory to the services, for the handlers in HTTPOptions. It is nil without
// GRPCOptions.Local. It ends with g.
func (g *GRPC) Local() *Local { return g.local }

// MessageBytesMax returns the size in bytes of the largest message that the server takes.
func (g *GRPC) MessageBytesMax() int { return g.options.MaxRequestBytes + requestOverhead }

// Draining returns a context that ends when the server stops. Streams that do not end by themselves must then end with
// Unavailable, so that clients resume elsewhere.
func (g *GRPC) Draining() context.Context { return g.draining }

// SetServing sets the answer of grpc.health.v1. It has no effect after the server has begun to stop.
func (g *GRPC) SetServing(serving bool) {
	s := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		s = healthpb.HealthCheckResponse_SERVING
	}
	g.health.SetServingStatus("", s)
}

// RegisterService implements grpc.ServiceRegistrar. It wraps each method with its counters. Interceptors would have to
// look them up by name for every request.
func (g *GRPC) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, md := range desc.Methods {
		m := g.addMethod(desc.ServiceName, md.MethodName, typeUnary)
		d.Methods[i] = grpc.MethodDesc{MethodName: md.MethodName, Handler: g.countUnary(m, md)}
	}
	d.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, sd := range desc.Streams {
		m := g.addMethod(desc.ServiceName, sd.StreamName, streamType(sd))
		d.Streams[i] = sd
		d.Streams[i].Handler = g.countStream(m, sd.Handler)
	}
	g.server.RegisterService(&d, impl)
	if g.local != nil {
		g.local.server.RegisterService(&d, impl)
	}
}

func (g *GRPC) addMethod(service, name, kind string) *method {
	m := newMethod(service, name, kind, g.options.Histograms)
	g.methods = append(g.methods, m)
	g.byName["/"+service+"/"+name] = m
	return m
}

func (g *GRPC) countUnary(
	m *method,
	md grpc.MethodDesc,
) func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
	h, slow := md.Handler, g.options.SlowRequest
	return func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		m.started.Add(1)
		begin := time.Now()
		c := unaryCall{g: g, m: m, ctx: ctx, decode: dec, came: begin}
		resp, err := h(srv, ctx, c.receive, nil)
		now := time.Now()
		took := now.Sub(begin)
		code := codeOf(err)
		m.finished(code, took)
		if code == codes.OK {
			m.sent.Add(1)
		}
		if g.options.Tracer != nil {
			g.options.Tracer.Ended(ctx, begin)
		}
		g.observe(c.requestType, now.Sub(c.came), code == codes.OK)
		if slow > 0 && took > slow {
			g.logSlow(ctx, m, took, code)
		}
		return resp, err
	}
}

// unaryCall is one call of a unary method. It is a single value and not several closures, to save allocations.
type unaryCall struct {
	g      *GRPC
	m      *method
	ctx    context.Context
	decode func(any) error

	requestType string    // set when the request has arrived
	came        time.Time // when the request arrived; before that, when the call began
}

// receive waits for the request and puts it into v.
func (c *unaryCall) receive(v any) error {
	came, err := c.g.bodies.receive(c.ctx, c.decode, v)
	if err == nil {
		c.m.received.Add(1)
		c.requestType, c.came = c.m.typeOf(v), came
	}
	return err
}

// logSlow logs that a request took long, and where its time went.
func (g *GRPC) logSlow(ctx context.Context, m *method, took time.Duration, code codes.Code) {
	remote := "unknown"
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	attrs := []slog.Attr{
		slog.String("method", m.service+"/"+m.name), slog.String("remote", remote),
		slog.String("took", took.String()), slog.String("code", code.String()),
	}
	if stages := timing.From(ctx); stages != nil {
		attrs = append(attrs, stages.Attrs(took)...)
	}
	g.options.Log.LogAttrs(ctx, slog.LevelWarn, "slow request", attrs...)
}

func (g *GRPC) countStream(m *method, h grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		m.started.Add(1)
		begin := time.Now()
		if m.kind == typeServerStream {
			stream = &firstMessage{ServerStream: stream, bodies: g.bodies}
		}
		err := h(srv, &countedStream{stream, m})
		m.finished(codeOf(err), time.Since(begin))
		return err
	}
}

// sweep starts to enforce the limits of bodies. stop ends that.
func (g *GRPC) sweep() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := background(func() { g.bodies.run(ctx) })
	return func() {
		cancel()
		<-done
	}
}

// codec is wire.Codec that counts the bytes.
type codec struct {
	wire.Codec
	sent, received *atomic.Uint64
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	b, err := c.Codec.Marshal(v)
	c.sent.Add(uint64(b.Len()))
	return b, err
}

func (c codec) Unmarshal(b mem.BufferSlice, v any) error {
	c.received.Add(uint64(b.Len()))
	return c.Codec.Unmarshal(b, v)
}
