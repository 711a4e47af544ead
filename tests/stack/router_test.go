package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// routerTimeout bounds waits that usually take milliseconds.
const routerTimeout = 2 * time.Minute

// write makes one of the calls that write. It returns the key by which the pods count it.
type write struct {
	method string
	make   func(i int) (key string, request, response any)
}

var writes = []write{
	{pb.KV_Put_FullMethodName, func(i int) (string, any, any) {
		key := fmt.Sprint("k", i)
		return key, &pb.PutRequest{Key: []byte(key)}, &pb.PutResponse{}
	}},
	{pb.KV_DeleteRange_FullMethodName, func(i int) (string, any, any) {
		key := fmt.Sprint("k", i)
		return key, &pb.DeleteRangeRequest{Key: []byte(key)}, &pb.DeleteRangeResponse{}
	}},
	{pb.KV_Txn_FullMethodName, func(i int) (string, any, any) {
		key := fmt.Sprint("k", i)
		return key, &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte(key)}}}, &pb.TxnResponse{}
	}},
	{pb.Lease_LeaseGrant_FullMethodName, func(i int) (string, any, any) {
		return fmt.Sprint(i), &pb.LeaseGrantRequest{ID: int64(i)}, &pb.LeaseGrantResponse{}
	}},
}

// cuts are the ways in which a pod ends.
var cuts = map[string]struct{ reset, stop bool }{
	"FIN":                          {},
	"RST":                          {reset: true},
	"FIN, and the pod is not back": {stop: true},
	"RST, and the pod is not back": {reset: true, stop: true},
}

// callsAtATime is how many calls are under way, over one connection, when a pod ends.
const callsAtATime = 20

// atATime makes callsAtATime calls at the same time, each by do, and returns their keys and errors.
func atATime(call write, do func(request, response any) error) (keys [callsAtATime]string, errs [callsAtATime]error) {
	var wg sync.WaitGroup
	for i := range callsAtATime {
		wg.Go(func() {
			var request, response any
			keys[i], request, response = call.make(i)
			errs[i] = do(request, response)
		})
	}
	wg.Wait()
	return keys, errs
}

// TestRouterRepeatsNoCall cuts connections while pods execute calls. A call that one pod has received must not reach a
// pod again, neither from the router nor from gRPC in the client, which retries calls that it believes were refused.
// The client gets Unavailable, and decides what to do.
func TestRouterRepeatsNoCall(t *testing.T) {
	for name, c := range cuts {
		for _, call := range writes {
			t.Run(path.Base(call.method)+", "+name, func(t *testing.T) {
				w := newWorld()
				conn, _, _ := startRouter(t, w)
				ctx, cancel := context.WithTimeout(t.Context(), routerTimeout)
				defer cancel()
				// Make some calls first, so that there are connections to pods, and so that the call's
				// stream is not the first of its connection.
				for i := range 6 {
					_, request, response := call.make(callsAtATime + i)
					if err := conn.Invoke(ctx, call.method, request, response); err != nil {
						t.Fatal(err)
					}
				}
				gone := make(chan struct{})
				var first sync.Once
				var dead *fakePod
				w.onCall = func(_ context.Context, p *fakePod) error {
					first.Do(func() {
						dead = p
						if c.stop {
							p.listener.Close()
						}
						p.listener.cut(c.reset)
						close(gone)
					})
					<-gone
					if p == dead {
						p.listener.cut(c.reset) // connections that came since
					}
					return nil
				}
				keys, errs := atATime(call, func(request, response any) error {
					return conn.Invoke(ctx, call.method, request, response)
				})
				failed := 0
				for i, err := range errs {
					n := w.count(keys[i])
					switch {
					case err == nil && n == 1:
					case status.Code(err) == codes.Unavailable && n <= 1:
						failed++
					default:
						t.Errorf("call %d was carried out %d times, the client got: %v", i, n, err)
					}
				}
				if failed == 0 {
					t.Error("no call was affected by a fault")
				}
			})
		}
	}
}

// TestRouterCutAnswer cuts connections when the client has received the headers of the answer and waits for the rest.
// The router cannot take headers back, so it resets the client's stream. The client gets Internal, which is an unknown
// outcome too. (Pods send the headers of unary calls together with the answer.)
func TestRouterCutAnswer(t *testing.T) {
	for name, c := range cuts {
		for _, call := range writes {
			t.Run(path.Base(call.method)+", "+name, func(t *testing.T) {
				w := newWorld()
				conn, _, _ := startRouter(t, w)
				ctx, cancel := context.WithTimeout(t.Context(), routerTimeout)
				defer cancel()
				var headers sync.WaitGroup // the headers for which clients wait
				headers.Add(callsAtATime)
				var first sync.Once
				var dead *fakePod
				w.onCall = func(ctx context.Context, p *fakePod) error {
					if err := grpc.SendHeader(ctx, metadata.Pairs("begun", "1")); err != nil {
						return err
					}
					headers.Wait()
					first.Do(func() {
						dead = p
						if c.stop {
							p.listener.Close()
						}
						p.listener.cut(c.reset)
					})
					return nil
				}
				keys, errs := atATime(call, func(request, response any) error {
					s, err := conn.NewStream(ctx, &grpc.StreamDesc{}, call.method)
					if err == nil {
						err = errors.Join(s.SendMsg(request), s.CloseSend())
					}
					if err == nil {
						_, err = s.Header()
					}
					headers.Done()
					if err == nil {
						err = s.RecvMsg(response)
					}
					return err
				})
				failed := 0
				for i, err := range errs {
					n := w.count(keys[i])
					switch code := status.Code(err); {
					case err == nil && n == 1:
					case (code == codes.Unavailable || code == codes.Internal) && n == 1:
						failed++
					default:
						t.Errorf("call %d was carried out %d times, the client got: %v", i, n, err)
					}
				}
				if dead == nil || failed == 0 {
					t.Error("no call was affected by a fault")
				}
			})
		}
	}
}

// TestRouterCutStreams cuts the connections of the pods that serve a watch and keep-alives. The client gets a code on
// which clientv3 turns to another pod.
func TestRouterCutStreams(t *testing.T) {
	for name, c := range cuts {
		t.Run(name, func(t *testing.T) {
			conn, pods, _ := startRouter(t, newWorld())
			ctx, cancel := context.WithTimeout(t.Context(), routerTimeout)
			defer cancel()
			watch, err := pb.NewWatchClient(conn).Watch(ctx)
			if err == nil {
				err = watch.Send(&pb.WatchRequest{})
			}
			if err == nil {
				_, err = watch.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
			alive, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
			if err == nil {
				err = alive.Send(&pb.LeaseKeepAliveRequest{ID: 1})
			}
			if err == nil {
				_, err = alive.Recv()
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range []string{"watchhub", "leasekeeper"} {
				for _, p := range pods[kind] {
					if c.stop {
						p.listener.Close()
					}
					p.listener.cut(c.reset)
				}
			}
			for what, recv := range map[string]func() error{
				"watch":      func() error { _, err := watch.Recv(); return err },
				"keep-alive": func() error { _, err := alive.Recv(); return err },
			} {
				if err := recv(); status.Code(err) != codes.Unavailable && status.Code(err) != codes.Internal {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestRouterDeadPods: the router sends calls to the other pod while one is dead. If both are dead, it answers with a
// gRPC error.
func TestRouterDeadPods(t *testing.T) {
	w := newWorld()
	conn, pods, httpAddress := startRouter(t, w)
	kv := pb.NewKVClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), routerTimeout)
	defer cancel()
	pods["kv"][0].server.Stop()
	for i := range 10 {
		key := fmt.Sprint("one", i)
		if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte(key)}); err != nil || w.count(key) != 1 {
			t.Errorf("with one pod left: %v, carried out %d times", err, w.count(key))
		}
	}
	pods["kv"][1].server.Stop()
	_, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("none")})
	if s := status.Convert(err); s.Code() != codes.Unavailable ||
		!strings.Contains(s.Message(), "no answer from a pod") {
		t.Errorf("with no pod left: %v", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+httpAddress+"/health", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway {
		t.Errorf("/health with no pod left: %s", resp.Status)
	}
}

// TestRouterHost: for all services the router passes on the host that a client has dialled, which names the keyspace.
func TestRouterHost(t *testing.T) {
	const host = "team-a.etcd.test:2379"
	w := newWorld()
	seen := make(chan []string, 1)
	w.onCall = func(ctx context.Context, _ *fakePod) error {
		seen <- metadata.ValueFromIncomingContext(ctx, ":authority")
		return nil
	}
	shared, _, _ := startRouter(t, w)
	conn, err := grpc.NewClient(shared.Target(), grpc.WithAuthority(host),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), routerTimeout)
	defer cancel()
	_, err = pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("k")})
	if got := <-seen; err != nil || !slices.Equal(got, []string{host}) {
		t.Errorf("a kv pod gets the host %q, %v", got, err)
	}
	_, err = pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 1})
	if got := <-seen; err != nil || !slices.Equal(got, []string{host}) {
		t.Errorf("a lease keeper gets the host %q, %v", got, err)
	}
}

// TestRouterStreams checks streams: that they go to the right kind of pod, many over one connection, long ones, and
// ends from both sides.
func TestRouterStreams(t *testing.T) {
	w := newWorld()
	conn, _, _ := startRouter(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), routerTimeout)
	defer cancel()
	if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("a service that is not etcd's own: %v", err)
	}
	watch := func(ctx context.Context) pb.Watch_WatchClient {
		t.Helper()
		s, err := pb.NewWatchClient(conn).Watch(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&pb.WatchRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	last := watch(ctx)
	for range 200 { // more than nginx's default of 128
		last = watch(ctx)
	}
	end := &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{}}
	if err := last.Send(&pb.WatchRequest{RequestUnion: end}); err != nil {
		t.Fatal(err)
	}
	if _, err := last.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "draining") {
		t.Errorf("the pod ended the stream with Unavailable, the client got %v", err)
	}
	canceled, stop := context.WithCancel(ctx)
	watch(canceled)
	stop()
	select {
	case err := <-w.ended:
		if status.Code(err) != codes.Canceled {
			t.Errorf("the pod sees the end of a canceled stream as %v", err)
		}
	case <-ctx.Done():
		t.Error("the pod does not hear that the client canceled its stream")
	}
	alive, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Each may come with pings that measure bandwidth, of which nginx accepts a limited number.
	for id := range int64(3000) {
		if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if r, err := alive.Recv(); err != nil || r.ID != id {
			t.Fatalf("keep-alive %d: %v %v", id, r, err)
		}
	}
}

// TestRenderRouter checks that RenderRouter refuses values that do not fit the template.
func TestRenderRouter(t *testing.T) {
	values := map[string]string{"KV_1": "127.0.0.1:1"}
	if text, err := RenderRouter("server ${KV_1}; $http_host ${lower}", values); err != nil ||
		text != "server 127.0.0.1:1; $http_host ${lower}" {
		t.Errorf("%q %v", text, err)
	}
	if _, err := RenderRouter("${KV_1} ${KV_2}", values); err == nil || !strings.Contains(err.Error(), "KV_2") {
		t.Errorf("a value is missing: %v", err)
	}
	if _, err := RenderRouter("nothing", values); err == nil || !strings.Contains(err.Error(), "KV_1") {
		t.Errorf("a value without use: %v", err)
	}
	s := &Stack{cfg: Config{Dir: "/stack", Port: 2379, BasePort: 23790}}
	template, err := os.ReadFile(filepath.FromSlash(routerTemplate))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RenderRouter(string(template), s.routerValues()); err != nil {
		t.Error(err)
	}
}
