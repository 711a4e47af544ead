package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const routerTemplate = "../../deploy/nginx.conf.template"

// cutter is a listener whose connections can be cut off.
type cutter struct {
	net.Listener
	mu    sync.Mutex
	conns []*net.TCPConn
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.conns = append(c.conns, conn.(*net.TCPConn))
	}
	return conn, err
}

// cut ends all connections, as the kernel does for a process that dies: with FIN, or with RST if something has not been read.
func (c *cutter) cut(reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		if reset {
			_ = conn.SetLinger(0) // it may have ended
		}
		_ = conn.Close() // as above
	}
	c.conns = nil
}

// fakePod serves one kind's services and counts what it carries out, by key.
type fakePod struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer
	listener *cutter
	server   *grpc.Server
	world    *world
}

// world is what the pods of a test share.
type world struct {
	mu      sync.Mutex
	carried map[string]int // by key
	// onPut is called while a put is being carried out, by the pod that does. Set before the puts.
	onPut func(ctx context.Context, p *fakePod) error
	ended chan error // gets the end of each watch stream, as the pod sees it
}

func (w *world) count(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.carried[key]
}

func (p *fakePod) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{}, nil
}

func (p *fakePod) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	p.world.mu.Lock()
	p.world.carried[string(r.Key)]++
	do := p.world.onPut
	p.world.mu.Unlock()
	if do != nil {
		if err := do(ctx, p); err != nil {
			return nil, err
		}
	}
	return &pb.PutResponse{}, nil
}

// Watch answers each request, and ends with Unavailable after one to cancel.
func (p *fakePod) Watch(s pb.Watch_WatchServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			p.world.ended <- err
			return err
		}
		if r.GetCancelRequest() != nil {
			return status.Error(codes.Unavailable, "draining")
		}
		if err := s.Send(&pb.WatchResponse{Created: true}); err != nil {
			return err
		}
	}
}

func (p *fakePod) LeaseKeepAlive(s pb.Lease_LeaseKeepAliveServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := s.Send(&pb.LeaseKeepAliveResponse{ID: r.ID}); err != nil {
			return err
		}
	}
}

// startFake starts a pod of a kind, which serves nothing but the services of that kind.
func startFake(t *testing.T, kind string, w *world) *fakePod {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &fakePod{listener: &cutter{Listener: l}, server: grpc.NewServer(), world: w}
	switch kind {
	case "kv":
		pb.RegisterKVServer(p.server, p)
		healthpb.RegisterHealthServer(p.server, health.NewServer())
	case "watchhub":
		pb.RegisterWatchServer(p.server, p)
	case "leasekeeper":
		pb.RegisterLeaseServer(p.server, p)
	}
	go func() { _ = p.server.Serve(p.listener) }() // ends with Stop
	t.Cleanup(p.server.Stop)
	return p
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// tryRouter starts nginx on two free ports, until the end of the test.
func tryRouter(t *testing.T, nginx string, addresses map[string]string) (*Stack, error) {
	t.Helper()
	s := &Stack{cfg: Config{Dir: t.TempDir(), Port: freePort(t), BasePort: freePort(t), Nginx: nginx}}
	values := s.routerValues()
	maps.Copy(values, addresses)
	template, err := os.ReadFile(routerTemplate)
	if err != nil {
		return nil, err
	}
	text, err := RenderRouter(string(template), values)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.path(routerFile), []byte(text), 0o644); err != nil {
		return nil, err
	}
	path, args := routerCommand(nginx, s.cfg.Dir)
	// The file with its id is there when nginx listens. Dialing would be worse: a dialer may get the very port as its own, and talk to itself.
	router := &Process{Name: KindRouter, Kind: KindRouter, Log: s.path("nginx.log"), path: path, args: args, ready: func(context.Context) error {
		_, err := os.Stat(s.path("nginx.pid"))
		return err
	}}
	if err := router.Start(t.Context()); err != nil {
		log, _ := os.ReadFile(router.Log)
		return nil, fmt.Errorf("%w\n%s", err, log)
	}
	t.Cleanup(func() {
		if err := router.Kill(); err != nil {
			t.Error(err)
		}
		if log, _ := os.ReadFile(router.Log); t.Failed() {
			t.Logf("nginx: %s", log)
		}
	})
	return s, nil
}

// startRouter starts nginx with the configuration that the stack and docker-compose.yml use, in front of two fake pods of each kind.
func startRouter(t *testing.T, w *world) (conn *grpc.ClientConn, pods map[string][]*fakePod, httpAddress string) {
	t.Helper()
	nginx, err := FindNginx()
	if err != nil {
		t.Skipf("SKIPPED the router's behaviour: %v (apt-get install nginx)", err)
	}
	addresses := map[string]string{}
	pods = map[string][]*fakePod{}
	for _, kind := range PodKinds {
		for i := range podsPerKind {
			p := startFake(t, kind, w)
			pods[kind] = append(pods[kind], p)
			addresses[fmt.Sprintf("%s_%d", strings.ToUpper(kind), i+1)] = p.listener.Addr().String()
		}
	}
	// A port that is free may be taken before nginx takes it.
	var s *Stack
	for range 5 {
		if s, err = tryRouter(t, nginx, addresses); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	conn, err = grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, pods, s.HTTPEndpoint()
}

func newWorld() *world { return &world{carried: map[string]int{}, ended: make(chan error, 1)} }

// routerTimeout bounds what takes milliseconds.
const routerTimeout = 30 * time.Second

// TestRouterRepeatsNoCall cuts off connections while calls are being carried out. A call that a pod got must not come to a pod again, from
// the router or from gRPC in the client, which repeats what it is told was refused: the client gets Unavailable (or Internal, if nginx had
// begun to relay an answer), and the rest is up to it.
func TestRouterRepeatsNoCall(t *testing.T) {
	const calls = 20 // at a time, over one connection
	for name, c := range map[string]struct{ reset, stop bool }{
		"FIN":                          {},
		"RST":                          {reset: true},
		"FIN, and the pod is not back": {stop: true},
		"RST, and the pod is not back": {reset: true, stop: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			conn, _, _ := startRouter(t, w)
			kv := pb.NewKVClient(conn)
			ctx, cancel := context.WithTimeout(t.Context(), routerTimeout)
			defer cancel()
			// Some calls first, so that connections to pods are there and the stream is not the first of its connection.
			for i := range 6 {
				if _, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Append(nil, "warm", i)}); err != nil {
					t.Fatal(err)
				}
			}
			gone := make(chan struct{})
			var first sync.Once
			var dead *fakePod
			w.onPut = func(_ context.Context, p *fakePod) error {
				first.Do(func() {
					dead = p
					if c.stop {
						p.listener.Close()
					}
					p.listener.cut(c.reset)
					close(gone)
				})
				<-gone
				if p != dead {
					return nil
				}
				p.listener.cut(c.reset) // connections that came since
				return nil
			}
			errs := make([]error, calls)
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() { _, errs[i] = kv.Put(ctx, &pb.PutRequest{Key: fmt.Append(nil, "k", i)}) })
			}
			wg.Wait()
			failed := 0
			for i, err := range errs {
				n := w.count(fmt.Sprint("k", i))
				switch {
				case err == nil && n == 1:
				case status.Code(err) == codes.Unavailable && n <= 1:
					failed++
				case status.Code(err) == codes.Internal && n == 1: // the answer had begun
				default:
					t.Errorf("call %d was carried out %d times, the client got: %v", i, n, err)
				}
			}
			if failed == 0 {
				t.Error("no call was hit")
			}
		})
	}
}

// TestRouterDeadPods sends calls on while one pod is dead, and says so in gRPC's own way when both are.
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
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "no answer from a pod") {
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

// TestRouterStreams looks at streams: to the right kind of pod, many over one connection, long ones, and their ends on both sides.
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
	if err := last.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{}}}); err != nil {
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
	for id := range int64(3000) { // each may come with pings for measuring the bandwidth, of which nginx takes only so many
		if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
		if r, err := alive.Recv(); err != nil || r.ID != id {
			t.Fatalf("keep-alive %d: %v %v", id, r, err)
		}
	}
}

// TestRenderRouter checks that values and template have to fit.
func TestRenderRouter(t *testing.T) {
	values := map[string]string{"KV_1": "127.0.0.1:1"}
	if text, err := RenderRouter("server ${KV_1}; $http_host ${lower}", values); err != nil || text != "server 127.0.0.1:1; $http_host ${lower}" {
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
