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

// bufferBytes is how many bytes a local connection buffers in each direction before the writer waits.
const bufferBytes = 256 << 10

// Client is a clientv3 client of the services of its own process, over memory. The Lock and Election services run
// etcd's recipes on it. It has a gRPC server of its own. So its calls are not counted and limited like those of
// clients, and stopping the clients' server does not wait for them.
type Client struct {
	server *grpc.Server
	client *clientv3.Client
	close  func() error
}

// New starts a local server with the services that register adds: at least KV, Watch and Lease. The caller must call
// Close after the servers that offer Lock and Election have stopped taking requests, and before it closes what the
// services use. Requests that still wait for a lock then fail.
func New(register func(grpc.ServiceRegistrar)) (*Client, error) {
	listener := bufconn.Listen(bufferBytes)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"local"},
		Logger:    zap.NewNop(), // errors go to the client that has asked
		DialOptions: append(
			tlsconf.PassOn(true), // calls are made in the name of the client who asked
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
		// Serve returns when Close stops it. A listener in memory has no errors.
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

// Client returns the client. Only Close may close it.
func (l *Client) Client() *clientv3.Client { return l.client }

// Close ends all calls of the client and stops the local server.
func (l *Client) Close() error { return l.close() }
