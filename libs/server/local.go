package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/grpc/test/bufconn"
)

// Sizes of the connection over memory. A stream whose client does not read holds at most one window of it. The
// connection's window is returned as bytes arrive, whether they are read or not, so that no stream waits for another.
const (
	localStreamWindow = 64 << 10
	localConnWindow   = 4 << 20
	localBuffer       = 256 << 10 // bytes in transit, in each direction
	// localHeaderListMax has room for the metadata that is made of an HTTP request's header, which is bounded itself.
	localHeaderListMax = 8 * httpHeaderBytesMax
)

// callerKey is the metadata in which a call on the local connection names its caller. Only the local server reads it.
const callerKey = "headwater-caller"

// metadataHeader begins the names of headers that the gateway turns into metadata.
const metadataHeader = "Grpc-Metadata-"

var errNoCaller = status.Error(codes.Internal, "headwater: a local call without a caller")

// Local is a connection over memory to the services of the process's own gRPC server, for calls that clients make by
// other means than gRPC. They are counted, limited and permitted as calls of the client that makes them. The context of
// a call must be, or be derived from, that of an HTTP request which the server serves. Otherwise the call fails. Its
// methods may be called from any goroutine.
type Local struct {
	server   *grpc.Server
	listener *bufconn.Listener
	conn     *grpc.ClientConn

	mu      sync.Mutex
	callers map[string]*caller // of calls that have begun, by the number that they carry
	next    atomic.Uint64
}

// caller is the client of an HTTP request.
type caller struct {
	peer *peer.Peer
	host string // the requested host: what :authority is for a gRPC call
}

// callerOf is the key of the caller in a request's context, and connKey that of the address of its connection.
type (
	callerOf struct{}
	connKey  struct{}
)

// newLocal returns the local connection of g. options are those options of g's own server that local calls need too.
func newLocal(g *GRPC, options ...grpc.ServerOption) *Local {
	l := &Local{listener: bufconn.Listen(localBuffer), callers: make(map[string]*caller)}
	options = append(slices.Clip(options),
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			ctx, err := l.assume(ctx, info)
			if err != nil {
				return ctx, err
			}
			return g.tap(ctx, info)
		}),
		grpc.MaxConcurrentStreams(math.MaxUint32), // the gateway bounds calls by itself
		grpc.MaxHeaderListSize(localHeaderListMax),
		grpc.StaticStreamWindowSize(localStreamWindow),
		grpc.StaticConnWindowSize(localConnWindow),
	)
	l.server = grpc.NewServer(options...)
	// NewClient cannot fail: the target and the options are constants.
	l.conn, _ = grpc.NewClient("passthrough:local",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.listener.DialContext(ctx)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
		grpc.WithStaticStreamWindowSize(localStreamWindow),
		grpc.WithStaticConnWindowSize(localConnWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
	)
	return l
}

// serve serves the connection until the server is stopped.
func (l *Local) serve() error {
	if err := l.server.Serve(l.listener); err != nil {
		return fmt.Errorf("the local connection: %w", err)
	}
	return nil
}

// close ends all calls.
func (l *Local) close() {
	_ = l.conn.Close() // it fails only when it is called twice
	l.server.Stop()
	l.listener.Close()
}

// Invoke implements grpc.ClientConnInterface.
func (l *Local) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ctx, done, err := l.announce(ctx)
	if err != nil {
		return err
	}
	defer done()
	return l.conn.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface. The stream must end with its context.
func (l *Local) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, done, err := l.announce(ctx)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, done)
	return l.conn.NewStream(ctx, desc, method, opts...)
}

// announce registers the caller of ctx, and returns the context for the call. The caller of announce calls done after
// the call.
func (l *Local) announce(ctx context.Context) (_ context.Context, done func(), err error) {
	c, ok := ctx.Value(callerOf{}).(*caller)
	if !ok {
		return nil, nil, errNoCaller
	}
	id := strconv.FormatUint(l.next.Add(1), 10)
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if md == nil {
		md = metadata.MD{}
	}
	md[callerKey] = []string{id} // replaces what a client may have sent
	l.mu.Lock()
	l.callers[id] = c
	l.mu.Unlock()
	return metadata.NewOutgoingContext(ctx, md), func() {
		l.mu.Lock()
		delete(l.callers, id)
		l.mu.Unlock()
	}, nil
}

// assume sets the peer of an arriving call to its caller, and its authority to the host that the caller requested.
func (l *Local) assume(ctx context.Context, info *tap.Info) (context.Context, error) {
	var c *caller
	if ids := info.Header[callerKey]; len(ids) == 1 {
		l.mu.Lock()
		c = l.callers[ids[0]]
		l.mu.Unlock()
	}
	if c == nil {
		return ctx, errNoCaller
	}
	md := maps.Clone(info.Header)
	delete(md, callerKey)
	md[":authority"] = []string{c.host}
	return metadata.NewIncomingContext(peer.NewContext(ctx, c.peer), md), nil
}

// noteConn puts the address of a connection into the context of its requests. The address is unique. It is an
// http.Server's ConnContext.
func noteConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c.RemoteAddr())
}

// withCaller makes the client of a request the caller of the local calls that next makes for it.
func withCaller(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		c := &caller{host: r.Host, peer: &peer.Peer{}}
		c.peer.Addr, _ = ctx.Value(connKey{}).(net.Addr)
		c.peer.LocalAddr, _ = ctx.Value(http.LocalAddrContextKey).(net.Addr)
		if r.TLS != nil {
			c.peer.AuthInfo = credentials.TLSInfo{
				State:          *r.TLS,
				CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
			}
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, callerOf{}, c)))
	})
}

// CallContext is the context that gRPC handlers get with a call that Options.Gateway makes for r: with its client, the
// host that it asks for, its token, and the metadata of the given names that its header carries. It is for who must
// know whose a request is before a call is made. r must be one that Options.Gateway serves.
func CallContext(r *http.Request, names ...string) context.Context {
	ctx := r.Context()
	c, ok := ctx.Value(callerOf{}).(*caller)
	if !ok {
		return ctx
	}
	md := metadata.MD{":authority": []string{c.host}}
	for _, name := range names {
		if v := r.Header.Values(metadataHeader + name); len(v) > 0 {
			md.Append(name, v...)
		}
	}
	if v := r.Header.Values("Authorization"); len(v) > 0 {
		md.Append("authorization", v...)
	}
	return metadata.NewIncomingContext(peer.NewContext(ctx, c.peer), md)
}

// stopAll calls stop for each server of g at the same time, and returns when all have returned.
func (g *GRPC) stopAll(stop func(*grpc.Server)) {
	var wg sync.WaitGroup
	wg.Go(func() { stop(g.server) })
	if g.local != nil {
		wg.Go(func() { stop(g.local.server) })
	}
	wg.Wait()
}

// serveLocal serves the local connection, if there is one, until g is stopped.
func (g *GRPC) serveLocal() error {
	if g.local == nil {
		return nil
	}
	err := g.local.serve()
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}
