package etcdapi_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/wire"
)

// nullLeases answers every keep-alive with a constant: what gRPC itself can do.
type nullLeases struct{ pb.UnimplementedLeaseServer }

func (nullLeases) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	answer := &pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{
		ClusterId: 1, MemberId: 2, Revision: 3, RaftTerm: 2,
	}, ID: 1, TTL: 60}
	for {
		if _, err := stream.Recv(); err != nil {
			return nil //nolint:nilerr // the client went
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// manyLeases is a lease.Store with leases 1…n.
type manyLeases int64

func (manyLeases) ClaimLeases(context.Context, int) (mvcc.Fence, error) { return mvcc.Fence{}, nil }
func (manyLeases) LeaseGrant(context.Context, int64, int64, *mvcc.Fence) (int64, error) {
	return 3, nil
}
func (manyLeases) LeaseRevoke(context.Context, int64, *mvcc.Fence) (int64, error) { return 3, nil }
func (manyLeases) LeaseRevokeStep(context.Context, int64, *mvcc.Fence) (int64, bool, error) {
	return 3, true, nil
}
func (manyLeases) LeaseKeys(context.Context, int64) ([][]byte, int64, error) { return nil, 3, nil }
func (manyLeases) Head(context.Context) (int64, error)                       { return 3, nil }
func (m manyLeases) RecentHead(ctx context.Context) (int64, error)           { return m.Head(ctx) }
func (n manyLeases) Leases(_ context.Context, visit func(id, ttl int64) error) error {
	for id := range int64(n) {
		if err := visit(id+1, 600); err != nil {
			return err
		}
	}
	return nil
}

const benchLeases = 900_000

// benchServer returns clients of 20 connections over loopback.
func benchServer(b *testing.B, register func(grpc.ServiceRegistrar)) []pb.LeaseClient {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	register(server)
	go func() { _ = server.Serve(listener) }()
	clients := make([]pb.LeaseClient, 20)
	for i := range clients {
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		clients[i] = pb.NewLeaseClient(conn)
	}
	b.Cleanup(server.Stop)
	return clients
}

// BenchmarkKeepAlive: keep-alives of 200 clients on 20 connections, on a stream each that stays ("stream"), and on a
// new stream for every one, as etcd's benchmark and clientv3's KeepAliveOnce do ("once").
func BenchmarkKeepAlive(b *testing.B) {
	keeper, err := lease.New(manyLeases(benchLeases), lease.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- keeper.Run(ctx) }()
	<-keeper.Ready()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			b.Error(err)
		}
	}()
	for _, server := range []struct {
		name     string
		register func(grpc.ServiceRegistrar)
	}{
		{"null", func(r grpc.ServiceRegistrar) { pb.RegisterLeaseServer(r, nullLeases{}) }},
		{"headwater", func(r grpc.ServiceRegistrar) {
			etcdapi.RegisterLease(r, keeper, etcdapi.Header{ClusterID: 1, MemberID: 2, RaftTerm: 2}, manyLeases(0))
		}},
	} {
		clients := benchServer(b, server.register)
		for _, load := range []struct {
			name string
			once bool
		}{{"stream", false}, {"once", true}} {
			b.Run(load.name+"/"+server.name, func(b *testing.B) {
				var next atomic.Int64
				b.ReportAllocs()
				b.SetParallelism(100) // on 2 cores: 200
				b.RunParallel(func(p *testing.PB) {
					n := next.Add(1)
					benchClient(b, p, clients[n%int64(len(clients))], n*4099, load.once)
				})
			})
		}
	}
}

func benchClient(b *testing.B, p *testing.PB, c pb.LeaseClient, id int64, once bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := c.LeaseKeepAlive(ctx)
	for p.Next() && err == nil {
		if id = id%benchLeases + 1; once {
			err = keepAliveOnce(c, id)
		} else {
			err = exchange(stream, id)
		}
	}
	if err != nil {
		b.Error(err)
	}
}

func keepAliveOnce(c pb.LeaseClient, id int64) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := c.LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	return exchange(stream, id)
}

func exchange(stream pb.Lease_LeaseKeepAliveClient, id int64) error {
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return err
	}
	r, err := stream.Recv()
	if err == nil && r.TTL == 0 {
		err = errors.New("no such lease")
	}
	return err
}
