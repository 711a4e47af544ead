package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/tests/internal/ranks"
)

const (
	// frameBytesMax is above what clients send and ask for.
	frameBytesMax = 64 << 20
	// redialMax bounds the pause between two attempts to reach a server that was restarted.
	redialMax = 200 * time.Millisecond
)

// count puts a proxy before the gRPC address of a server whose revisions have gaps. The proxy numbers them as etcd
// does, for clients of any kind, so that what clients print can be compared. It returns the proxy's address, which
// serves until the end of the test.
func count(t *testing.T, addr string) string {
	t.Helper()
	connect := func(more ...grpc.DialOption) *grpc.ClientConn { return connect(t, addr, more...) }
	follower, err := ranks.Follow(timeout(t), connect(), ranks.Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(follower.Close)
	return proxy(t, connect(ranks.Translator{Book: follower.Book}.DialOptions()...))
}

// connect connects to a server that may be restarted.
func connect(t *testing.T, addr string, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, append(more,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(frameBytesMax)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: redialMax / 10, Multiplier: 2, MaxDelay: redialMax},
			MinConnectTimeout: testTimeout,
		}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// proxy forwards all calls to a server until the end of the test. It returns its own address.
func proxy(t *testing.T, conn *grpc.ClientConn, more ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.ForceServerCodec(frames{}), grpc.MaxRecvMsgSize(frameBytesMax),
		grpc.UnknownServiceHandler(func(_ any, down grpc.ServerStream) error { return forward(conn, down, more...) }))
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		<-served
	})
	return listener.Addr().String()
}

// forward passes messages between a client's stream and one to the server until the server ends it, with more metadata.
func forward(conn *grpc.ClientConn, down grpc.ServerStream, more ...string) error {
	path, _ := grpc.MethodFromServerStream(down)
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, more...)
	both := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	up, err := conn.NewStream(ctx, both, path, grpc.ForceCodec(frames{}), grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	go func() {
		for {
			var frame []byte
			if down.RecvMsg(&frame) != nil {
				_ = up.CloseSend()
				return
			}
			if up.SendMsg(&frame) != nil {
				return // RecvMsg returns the reason
			}
		}
	}()
	for {
		var frame []byte
		if err := up.RecvMsg(&frame); err != nil {
			down.SetTrailer(up.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := down.SendMsg(&frame); err != nil {
			return err
		}
	}
}

// frames is the codec of messages that are passed on without decoding.
type frames struct{}

// Name implements encoding.Codec.
func (frames) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (frames) Marshal(v any) ([]byte, error) {
	frame, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("a frame of type %T", v)
	}
	return *frame, nil
}

// Unmarshal implements encoding.Codec.
func (frames) Unmarshal(data []byte, v any) error {
	frame, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a frame of type %T", v)
	}
	*frame = append([]byte(nil), data...)
	return nil
}
