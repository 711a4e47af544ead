package loopback

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/wire"
)

// bufferBytes is what a local connection holds in each direction before the writer waits.
const bufferBytes = 256 << 10

// Client is a clientv3 client of the services of its own process, over memory: what the Lock and Election services
// run etcd's recipes on. It has a gRPC server of its own, so that its calls are neither counted nor limited as those of
// clients, and so that stopping the server that clients use does not wait for them.
type Client struct {
	server *grpc.Server
	client *clientv3.Client
	close  func() error
}

// New starts a local server with the services that register adds, which must be at least KV, Watch and Lease.
// The caller must Close it after the servers that offer Lock and Election have stopped taking requests, and before what
// the services stand on is closed; requests that still wait for a lock then fail.
func New(register func(grpc.ServiceRegistrar)) (*Client, error) {
	listener := bufconn.Listen(bufferBytes)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"local"},
		Logger:    zap.NewNop(), // what goes wrong is answered to the client that asked
		DialOptions: append(
			tlsconf.PassOn(true), // calls are those of the client for whom they are made
			grpc.WithContextDialer(
				func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) },
			),
			grpc.WithNoProxy(),
		),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("loopback: %w", err), listener.Close())
	}
	l := &Client{
		server: grpc.NewServer(grpc.Creds(tlsconf.InProcess()), grpc.ForceServerCodecV2(wire.Codec{})),
		client: client,
	}
	register(l.server)
	served := make(chan struct{})
	go func() {
		defer close(served)
		// It returns when Close stops it; a listener in memory has no errors.
		_ = l.server.Serve(listener)
	}()
	l.close = sync.OnceValue(func() error {
		err := l.client.Close()
		l.server.Stop()
		<-served
		return err
	})
	return l, nil
}

// Client returns the client. It must not be closed but by Close.
func (l *Client) Client() *clientv3.Client { return l.client }

// Close ends all calls of the client and stops the local server.
func (l *Client) Close() error { return l.close() }
