package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// NotReadyOptions configure AnswerNotReady.
type NotReadyOptions struct {
	// Why returns why the process does not serve yet. It never returns nil.
	Why      func() error
	Versions Versions
	Metrics  *prometheus.Registry // from NewRegistry, for this server only; nil: an empty one
	Log      *slog.Logger
}

// AnswerNotReady answers on the sockets of a Server that cannot serve yet, because something that it needs is missing.
// Calls get Unavailable, so that clients go elsewhere. Health checks say that the process is alive but not ready. leave
// ends this, and must be called before Serve or Close: it closes the connections, and clients that connect later wait
// for Serve.
func (s *Server) AnswerNotReady(o NotReadyOptions) (leave func()) {
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	g := notReadyGRPC(o)
	handlers := newHTTP(HTTPOptions{
		Health: absent{o.Why}, Ready: []Check{{Name: "serving", Run: func(context.Context) error { return o.Why() }}},
		Versions: o.Versions, Metrics: o.Metrics, Log: o.Log,
	})
	waiting := newWaitingRoom(o.Log)
	client, metrics := newHTTPServer(handlers.client, waiting), newHTTPServer(handlers.metrics, waiting)
	borrowed := make([]*borrowedListener, len(s.listeners))
	for i, l := range s.listeners {
		borrowed[i] = &borrowedListener{Listener: l.Listener}
		serveListener(l, borrowed[i], servers{g, client, metrics, waiting}, o.Log, func(serve func() error) {
			go func() { _ = serve() }() // it only ends when its listener is closed
		})
	}
	return func() {
		for _, b := range borrowed {
			_ = b.Close() // it returns nil
		}
		g.Stop()
		_ = client.Close() // its listeners are closed already, as are the next one's
		_ = metrics.Close()
	}
}

// notReadyStreamsMax bounds the calls of a connection that are under way.
const notReadyStreamsMax = 100

// notReadyGRPC answers every call with Unavailable, except health checks, which get NOT_SERVING.
func notReadyGRPC(o NotReadyOptions) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(tlsconf.ServerCredentials()),
		grpc.ConnectionTimeout(sniffTimeout),
		grpc.MaxHeaderListSize(headerListMax),
		grpc.MaxConcurrentStreams(notReadyStreamsMax),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Errorf(codes.Unavailable, "headwater: starting: %v", o.Why())
		}),
	)
	h := health.NewServer()
	h.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(g, h)
	return g
}

// absent is the health of a process that has no store yet.
type absent struct{ why func() error }

// Read implements Health.
func (a absent) Read(context.Context, bool) error { return a.why() }

// Alarms implements Health.
func (absent) Alarms() []*pb.AlarmMember { return nil }

// servers are who serves the listeners of a process, and where connections wait for their clients.
type servers struct {
	grpc            *grpc.Server
	client, metrics *http.Server
	waiting         *waitingRoom
}

// serveListener serves l in its role, with connections from from. run runs a function in the background.
func serveListener(l *listener, from net.Listener, to servers, log *slog.Logger, run func(serve func() error)) {
	web := to.client
	if l.role == roleMetrics {
		web = to.metrics
	}
	if l.tls == nil && (l.role == roleHTTP || l.role == roleMetrics) {
		run(func() error { return web.Serve(from) })
		return
	}
	// A listener for gRPC alone has a splitter too: see the package comment about first bytes.
	split := newSplitter(from, l.layer(), to.waiting, log)
	run(split.serve)
	if l.role == roleHTTP || l.role == roleMetrics {
		_ = split.http2.Close() // connections of HTTP/2 are closed
	} else {
		run(func() error { return to.grpc.Serve(split.http2) })
	}
	if l.role == roleGRPC || l.role == rolePeer {
		_ = split.http1.Close() // connections of HTTP/1 are closed
	} else {
		run(func() error { return web.Serve(split.http1) })
	}
}

// borrowedListener is a listener that is returned after use: Close ends its Accept, and leaves the socket open.
type borrowedListener struct {
	net.Listener
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup // of Accept
}

// Accept implements net.Listener.
func (b *borrowedListener) Accept() (net.Conn, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, net.ErrClosed
	}
	b.inside.Add(1)
	b.mu.Unlock()
	defer b.inside.Done()
	c, err := b.Listener.Accept()
	if err != nil && b.isClosed() {
		err = net.ErrClosed
	}
	return c, err
}

func (b *borrowedListener) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close implements net.Listener. It returns when nobody is inside Accept.
func (b *borrowedListener) Close() error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	// All sockets are TCP or Unix sockets, which have deadlines.
	d, ok := b.Listener.(interface{ SetDeadline(time.Time) error })
	if !first || !ok {
		return nil
	}
	_ = d.SetDeadline(time.Unix(1, 0)) // the listener may be closed, which ends Accept as well
	b.inside.Wait()
	_ = d.SetDeadline(time.Time{})
	return nil
}
