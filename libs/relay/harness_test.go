package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/headwaterdb/headwater/libs/wire"
)

// patience bounds every wait; a loaded machine is slow.
const patience = 2 * time.Minute

type message = wrapperspb.BytesValue

// testDesc is a service with a method of each kind.
func testDesc(o *owner) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test.Service", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, dec func(any) error,
			_ grpc.UnaryServerInterceptor,
		) (any, error) {
			m := new(message)
			if err := dec(m); err != nil {
				return nil, err
			}
			return o.unary(ctx, m)
		}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Echo", ClientStreams: true, ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return o.echo(s) }},
			{StreamName: "List", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return o.list(s) }},
		},
	}
}

// owner is a pod that owns the service.
type owner struct {
	name    string
	server  *grpc.Server
	health  *health.Server
	addr    string
	calls   atomic.Int64
	sent    atomic.Int64  // messages that list has handed to gRPC
	ended   chan error    // how streams have ended, as their handlers see it
	handled chan struct{} // closed when Serve has returned
}

func (o *owner) unary(ctx context.Context, m *message) (*message, error) {
	o.calls.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	deadline, _ := ctx.Deadline()
	if err := grpc.SetHeader(ctx, metadata.Pairs("h", "head-"+strings.Join(md["key"], "+"), "data-bin",
		"\x00\xff")); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("t", "trail", "owner", o.name)); err != nil {
		return nil, err
	}
	switch string(m.Value) {
	case "fail":
		st, err := status.New(codes.OutOfRange, "no such thing").WithDetails(durationpb.New(time.Minute))
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	case "deadline":
		return &message{Value: []byte(fmt.Sprint(time.Until(deadline) > 0 && time.Until(deadline) < patience))}, nil
	}
	return m, nil
}

func (o *owner) echo(s grpc.ServerStream) (err error) {
	o.calls.Add(1)
	defer func() { o.ended <- err }()
	s.SetTrailer(metadata.Pairs("t", "trail"))
	if err := s.SendHeader(metadata.Pairs("owner", o.name)); err != nil {
		return err
	}
	for {
		m := new(message)
		err := s.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return status.Error(codes.AlreadyExists, "all echoed")
		}
		if err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// list sends without end.
func (o *owner) list(s grpc.ServerStream) (err error) {
	defer func() { o.ended <- err }()
	m := new(message)
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	for {
		if err := s.SendMsg(m); err != nil {
			return err
		}
		o.sent.Add(1)
	}
}

func serve(t *testing.T, s *grpc.Server) (addr string, done chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // it ends when the server is stopped
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String(), done
}

func newServer() *grpc.Server {
	return grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}), grpc.MaxRecvMsgSize(math.MaxInt32))
}

func newOwner(t *testing.T, name string) *owner {
	t.Helper()
	o := &owner{name: name, server: newServer(), health: health.NewServer(), ended: make(chan error, 10000)}
	healthpb.RegisterHealthServer(o.server, o.health)
	o.server.RegisterService(testDesc(o), o)
	o.addr, o.handled = serve(t, o.server)
	return o
}

// relayTo starts a pod that relays the service to endpoints, and returns a client of it.
func relayTo(t *testing.T, opts Options, endpoints ...string) (*Pool, *grpc.ClientConn) {
	t.Helper()
	opts.Name, opts.Endpoints = "test", endpoints
	pool, err := NewPool(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	s := newServer()
	pool.Register(s, testDesc(nil))
	l := bufconn.Listen(64 << 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	c, err := grpc.NewClient("passthrough:relay",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return pool, c
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s in time", what)
		}
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// unary calls until a pod of the pool is up.
func unary(t *testing.T, c *grpc.ClientConn, value string, opts ...grpc.CallOption) (string, error) {
	t.Helper()
	var resp message
	err := c.Invoke(testContext(t), "/test.Service/Unary", &message{Value: []byte(value)}, &resp, opts...)
	return string(resp.Value), err
}

func open(t *testing.T, ctx context.Context, c *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: method == "Echo", ServerStreams: true},
		"/test.Service/"+method)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
