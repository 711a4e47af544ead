package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwaterdb/headwater/libs/fair"
)

// callsMax is how many requests are served at the same time, streams included. Further ones are refused.
const callsMax = 20_000

// ownPrefix begins the names of Headwater's own metadata.
const ownPrefix = "headwater-"

// Options describe a Gateway.
type Options struct {
	// Conn leads to the services. Calls use the contexts of the requests.
	Conn grpc.ClientConnInterface
	// MessageBytesMax is the size of the largest request that the services take, in protobuf.
	MessageBytesMax int
	// AnswerBytes is the memory in bytes for answers that clients have not received. An answer that is larger is sent
	// when there is no other.
	AnswerBytes int64
	// Metadata are the names that begin with "headwater-" which clients may send.
	Metadata []string
	// Tenant returns the tenant of a request as a number, so that each tenant has its share of what is bounded; nil:
	// all requests belong to one tenant. Shared says whether there is more than one tenant; nil: there is one. Both are
	// called for each request and must not wait.
	Tenant func(*http.Request) uint64
	Shared func() bool
}

// Gateway is an http.Handler for paths below /v3/.
type Gateway struct {
	mux     *runtime.ServeMux
	headers []string // that become Options.Metadata
	jsonMax int64    // bytes of one message of a request
	timeout time.Duration
	bodies  *bodies
	tenant  func(*http.Request) uint64
	calls   *fair.Pool // requests that are served
	answers *fair.Pool // bytes of answers

	stopping context.Context // ends WebSockets, which no server closes
	stop     context.CancelFunc

	mu      sync.Mutex
	tenants map[uint64]*tenant // that have requests
	closed  bool
	done    sync.WaitGroup // requests
}

// tenant is what one of the tenants holds of a Gateway.
type tenant struct {
	number         uint64
	requests       int // under Gateway.mu
	calls, answers *fair.Holding
	bodies         int64 // bytes of bodies that count, under bodies.mu
}

// New returns a Gateway.
func New(o Options) (*Gateway, error) {
	g := &Gateway{
		jsonMax: int64(o.MessageBytesMax) * expansionMax,
		timeout: timeFor(o.MessageBytesMax),
		bodies:  newBodies(max(bodyBytesMax, bodiesMin*int64(o.MessageBytesMax)*expansionMax)),
		tenant:  o.Tenant,
		calls:   fair.NewPool(callsMax, o.Shared),
		answers: fair.NewPool(o.AnswerBytes, o.Shared),
		tenants: make(map[uint64]*tenant),
	}
	for _, name := range o.Metadata {
		g.headers = append(g.headers, http.CanonicalHeaderKey(runtime.MetadataHeaderPrefix+name))
	}
	g.stopping, g.stop = context.WithCancel(context.Background())
	g.mux = runtime.NewServeMux(
		runtime.WithIncomingHeaderMatcher(func(header string) (string, bool) {
			name, ok := runtime.DefaultHeaderMatcher(header)
			lower := strings.ToLower(name)
			if strings.HasPrefix(lower, ownPrefix) && !slices.Contains(o.Metadata, lower) {
				return "", false
			}
			return name, ok
		}),
		runtime.WithMetadata(throughGateway),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, marshaler),
	)
	ctx, c := context.Background(), conn{o.Conn} // the handlers do not use that context
	return g, errors.Join(
		gw.RegisterKVHandlerClient(ctx, g.mux, pb.NewKVClient(c)),
		gw.RegisterWatchHandlerClient(ctx, g.mux, pb.NewWatchClient(c)),
		gw.RegisterLeaseHandlerClient(ctx, g.mux, pb.NewLeaseClient(c)),
		gw.RegisterClusterHandlerClient(ctx, g.mux, pb.NewClusterClient(c)),
		gw.RegisterMaintenanceHandlerClient(ctx, g.mux, pb.NewMaintenanceClient(c)),
		gw.RegisterAuthHandlerClient(ctx, g.mux, pb.NewAuthClient(c)),
		registerConcurrency(g.mux, c),
	)
}

// acceptKey is metadata by which services recognise a call that came through the gateway, as etcd's do. For such a call
// the common name of a certificate is not a user.
const acceptKey = "grpcgateway-accept"

// throughGateway returns that metadata. It is added to that of the request's own header, which may be missing.
func throughGateway(context.Context, *http.Request) metadata.MD {
	return metadata.Pairs(acceptKey, "*/*")
}

// marshaler is the same as etcd's (embed/serve.go).
var marshaler = &runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{
	MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
	UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
}}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := g.checkHeader(r)
	var of *tenant
	if err == nil {
		of, err = g.enter(r)
	}
	if err != nil {
		runtime.HTTPError(r.Context(), g.mux, marshaler, w, r, err)
		return
	}
	defer g.leave(of)
	if websocket.IsWebSocketUpgrade(r) {
		g.serveWebSocket(w, r, of)
		return
	}
	control := http.NewResponseController(w)
	// Over HTTP/1, net/http sends no answer before it has received the whole request.
	duplex := r.ProtoMajor >= 2
	// Setting a deadline fails only on a connection that has ended.
	body := g.newBody(of, r.Body, duplex, func(t time.Time) { _ = control.SetReadDeadline(t) })
	out := &writer{ResponseWriter: w, control: control}
	g.serve(out, r, body)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeoutMin)) // for what net/http has still to write
}

// serve serves a request whose body comes from body.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, body *body) {
	c := &call{body: body, answers: body.of.answers}
	defer c.end()
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	r.Body = body
	g.mux.ServeHTTP(w, r)
}

// checkHeader refuses a request whose header has metadata of Headwater's own with bytes that gRPC cannot carry. The
// generated handlers would leave it out, and the request would go to a keyspace that it does not name. Errors:
// InvalidArgument.
func (g *Gateway) checkHeader(r *http.Request) error {
	unprintable := func(c rune) bool { return c < ' ' || c > '~' }
	for _, header := range g.headers {
		if slices.ContainsFunc(r.Header.Values(header), func(v string) bool {
			return strings.ContainsFunc(v, unprintable)
		}) {
			return status.Errorf(codes.InvalidArgument, "headwater: header %s: only printable ASCII is possible",
				header)
		}
	}
	return nil
}

// enter counts a request of a tenant. The caller calls leave when the request ends. Errors: ErrGRPCStopped,
// ErrGRPCRequestTooManyRequests.
func (g *Gateway) enter(r *http.Request) (*tenant, error) {
	var number uint64
	if g.tenant != nil {
		number = g.tenant(r)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, rpctypes.ErrGRPCStopped
	}
	of := g.tenants[number]
	if of == nil {
		of = &tenant{number: number, calls: g.calls.Holding(), answers: g.answers.Holding()}
	}
	if !of.calls.Take(1) {
		return nil, rpctypes.ErrGRPCRequestTooManyRequests
	}
	of.requests++
	g.tenants[number] = of
	g.done.Add(1)
	return of, nil
}

func (g *Gateway) leave(of *tenant) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of.calls.Give(1)
	if of.requests--; of.requests == 0 {
		delete(g.tenants, of.number)
	}
	g.done.Done()
}

// Close refuses further requests and waits for those under way. They end because the services have ended.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	g.done.Wait()
}
