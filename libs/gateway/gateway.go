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
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
)

// callsMax is how many requests are served at a time, streams included; further ones are refused.
const callsMax = 20_000

// ownPrefix is what names of Headwater's own metadata begin with.
const ownPrefix = "headwater-"

// Options describe a Gateway.
type Options struct {
	// Conn leads to the services. Its calls are made with contexts of the requests.
	Conn grpc.ClientConnInterface
	// MessageBytesMax is the size of the largest request that the services take, in protobuf.
	MessageBytesMax int
	// AnswerBytes is the memory for answers that clients have not taken yet, in bytes. One that is larger than all of
	// it goes when there is no other.
	AnswerBytes int64
	// Metadata are the names that begin with "headwater-" which clients may send.
	Metadata []string
}

// Gateway is an http.Handler for paths below /v3/.
type Gateway struct {
	mux     *runtime.ServeMux
	jsonMax int64 // bytes of one message of a request
	timeout time.Duration
	bodies  *bodies
	answers room

	stopping context.Context // ends WebSockets, which no server closes
	stop     context.CancelFunc

	mu     sync.Mutex
	calls  int
	closed bool
	done   sync.WaitGroup // requests
}

// New returns a Gateway.
func New(o Options) (*Gateway, error) {
	g := &Gateway{
		jsonMax: int64(o.MessageBytesMax) * expansionMax,
		timeout: timeFor(o.MessageBytesMax),
		bodies:  newBodies(max(bodyBytesMax, bodiesMin*int64(o.MessageBytesMax)*expansionMax)),
		answers: room{max: o.AnswerBytes},
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

// acceptKey is metadata by which services know a call that has come through the gateway (etcd's do): a certificate's
// common name is no user there.
const acceptKey = "grpcgateway-accept"

// throughGateway is that metadata. It stands beside that of the request's own header, which may be missing.
func throughGateway(context.Context, *http.Request) metadata.MD {
	return metadata.Pairs(acceptKey, "*/*")
}

// marshaler is etcd's (embed/serve.go).
var marshaler = &runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{
	MarshalOptions:   protojson.MarshalOptions{UseProtoNames: true},
	UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
}}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := g.enter(); err != nil {
		runtime.HTTPError(r.Context(), g.mux, marshaler, w, r, err)
		return
	}
	defer g.leave()
	if websocket.IsWebSocketUpgrade(r) {
		g.serveWebSocket(w, r)
		return
	}
	control := http.NewResponseController(w)
	// Over HTTP/1, net/http does not send an answer before the request has come wholly.
	duplex := r.ProtoMajor >= 2
	// Errors of deadlines are those of connections that have ended.
	body := g.newBody(r.Body, duplex, func(t time.Time) { _ = control.SetReadDeadline(t) })
	out := &writer{ResponseWriter: w, control: control}
	g.serve(out, r, body)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeoutMin)) // for what net/http has still to write
}

// serve serves a request whose body comes from body.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, body *body) {
	c := &call{body: body, answers: &g.answers}
	defer c.end()
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	r.Body = body
	g.mux.ServeHTTP(w, r)
}

func (g *Gateway) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return rpctypes.ErrGRPCStopped
	case g.calls >= callsMax:
		return rpctypes.ErrGRPCRequestTooManyRequests
	}
	g.calls++
	g.done.Add(1)
	return nil
}

func (g *Gateway) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls--
	g.done.Done()
}

// Close refuses further requests and waits for those under way, which the end of the services ends.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	g.done.Wait()
}
