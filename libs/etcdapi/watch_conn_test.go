package etcdapi

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/watch"
)

// TestWatchConnLimits: the streams of one connection share limits, another connection has its own, and what a closed
// stream had is free again. Connections of Unix sockets have no names, so they are told apart otherwise.
func TestWatchConnLimits(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			checkLeaks(t)
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "s")
			}
			lis, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			s := newWatchServer()
			t.Cleanup(s.listen(lis, watch.Options{MaxStreamsPerConn: 2, MaxWatchesPerConn: 3}, WatchOptions{}))
			dial := func() *watchServer {
				target := "passthrough:///" + lis.Addr().String()
				dialer := grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, a)
				})
				conn, err := grpc.NewClient(target, dialer, grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = conn.Close() })
				return &watchServer{conn: conn}
			}
			a, b := dial(), dial()
			a1, a2, b1 := a.stream(t), a.stream(t), b.stream(t)
			key := &pb.WatchCreateRequest{Key: []byte("k")}
			for i, c := range []watchClient{a1, a2, a1} {
				c.create(key)
				c.want(wrCreated(1, int64(i/2)))
			}
			for _, c := range []watchClient{a1, a2} {
				c.create(key)
				c.want(wrRefused(1, "etcdserver: too many requests"))
			}
			b1.create(key)
			b1.want(wrCreated(1, 0))

			a3 := a.stream(t)
			if _, err := a3.Recv(); status.Code(err) != codes.ResourceExhausted {
				t.Fatalf("a third stream: %v", err)
			}
			a1.cancel(0)
			a1.want(&pb.WatchResponse{Header: wrAt(1), WatchId: 0, Canceled: true})
			a2.create(key)
			a2.want(wrCreated(1, 1))

			ctx, stop := context.WithCancel(t.Context())
			b2, err := pb.NewWatchClient(b.conn).Watch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			watchClient{t, b2}.create(key)
			watchClient{t, b2}.recv()
			stop()
			waitStreams(t, s.hub, 3)
			b3 := b.stream(t)
			b3.create(key)
			b3.want(wrCreated(1, 0))
		})
	}
}

// waitStreams waits until the hub has n streams.
func waitStreams(t testing.TB, h *watch.Hub, n int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); h.Stats().Streams != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams, want %d", h.Stats().Streams, n)
		}
	}
}

// BenchmarkWatchMemory: heap per watcher of 100,000 watchers with a range of their own on 1,000 streams of 10
// connections, and heap and stacks per stream beside that (those of client and server together, since both are here).
func BenchmarkWatchMemory(b *testing.B) {
	const conns, streams, perStream = 10, 1000, 100
	memory := func() (heap, stacks float64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc), float64(m.StackInuse)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := newWatchServer()
	defer s.listen(lis, watch.Options{}, WatchOptions{})()
	var clients []*grpc.ClientConn
	for range conns {
		conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		clients = append(clients, conn)
	}
	for range b.N {
		ctx, stop := context.WithCancel(b.Context())
		before, stacksBefore := memory()
		all := make([]watchClient, streams)
		for i := range all {
			c, err := pb.NewWatchClient(clients[i%conns]).Watch(ctx)
			if err != nil {
				b.Fatal(err)
			}
			all[i] = watchClient{b, c}
		}
		waitStreams(b, s.hub, streams)
		open, _ := memory()
		for i, c := range all {
			for j := range perStream {
				c.create(watchPrefix(fmt.Sprintf("/registry/%d/%d/", i, j)))
				c.recv()
			}
		}
		full, stacks := memory()
		if n := s.hub.Stats().Watchers; n != streams*perStream {
			b.Fatalf("%d watchers", n)
		}
		b.ReportMetric((open-before+stacks-stacksBefore)/streams, "B/stream")
		b.ReportMetric((full-open)/(streams*perStream), "B/watcher")
		stop()
		waitStreams(b, s.hub, 0)
	}
}
