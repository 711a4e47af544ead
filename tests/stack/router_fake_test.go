package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/porttest"
)

const routerTemplate = "../../deploy/nginx.conf.template"

// cutter is a listener that can cut its connections.
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

// cut ends all connections as the kernel does when a process dies: with FIN, or with RST if there are unread data.
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

// patient is a listener whose connections begin with the client's first byte, as those of pods do (libs/server). If a
// pod sent something first and then ended, nginx before 1.29.5 would wreck another call (docs/adr/0006-router.md).
type patient struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
}

func newPatient(l net.Listener) *patient {
	p := &patient{Listener: l, conns: make(chan net.Conn), closed: make(chan struct{})}
	go func() {
		defer close(p.closed)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.hear(c)
		}
	}()
	return p
}

func (p *patient) hear(c net.Conn) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(c, first); err != nil {
		c.Close()
		return
	}
	select {
	case p.conns <- &heard{c, first}:
	case <-p.closed:
		c.Close()
	}
}

// Accept implements net.Listener.
func (p *patient) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// heard is a connection whose first byte has been read.
type heard struct {
	net.Conn
	first []byte
}

func (h *heard) Read(b []byte) (int, error) {
	if len(h.first) == 0 {
		return h.Conn.Read(b)
	}
	n := copy(b, h.first)
	h.first = h.first[n:]
	return n, nil
}

// fakePod serves the services of one kind, and counts the calls that it executes, by key.
type fakePod struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer
	pb.UnimplementedLeaseServer
	listener *cutter
	server   *grpc.Server
	world    *world
}

// world is the state that the pods of a test share.
type world struct {
	mu      sync.Mutex
	carried map[string]int // by key
	// onCall is called by the pod that executes a call that writes, during the call. Set it before the calls.
	onCall func(ctx context.Context, p *fakePod) error
	ended  chan error // gets the end of each watch stream, as the pod sees it
}

func (w *world) count(key string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.carried[key]
}

func (p *fakePod) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{}, nil
}

// carry executes the call for key.
func (p *fakePod) carry(ctx context.Context, key string) error {
	p.world.mu.Lock()
	p.world.carried[key]++
	do := p.world.onCall
	p.world.mu.Unlock()
	if do == nil {
		return nil
	}
	return do(ctx, p)
}

func (p *fakePod) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{}, p.carry(ctx, string(r.Key))
}

func (p *fakePod) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return &pb.DeleteRangeResponse{}, p.carry(ctx, string(r.Key))
}

func (p *fakePod) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return &pb.TxnResponse{}, p.carry(ctx, string(r.Compare[0].Key))
}

func (p *fakePod) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{ID: r.ID}, p.carry(ctx, strconv.FormatInt(r.ID, 10))
}

// Watch answers each request, and ends with Unavailable after a request to cancel.
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

// startFake starts a pod of a kind, which serves only the services of that kind.
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
	go func() { _ = p.server.Serve(newPatient(p.listener)) }() // ends with Stop
	t.Cleanup(p.server.Stop)
	return p
}

// runRouter starts nginx on two free ports, until the end of the test.
func runRouter(t *testing.T, nginx string, addresses map[string]string) (*Stack, error) {
	t.Helper()
	s := &Stack{cfg: Config{Dir: t.TempDir(), Port: porttest.Port(t), BasePort: porttest.Port(t), Nginx: nginx}}
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
	// nginx listens when the file with its id exists.
	router := &Process{
		Name: KindRouter, Kind: KindRouter, Log: s.path("nginx.log"), path: path, args: args,
		ready: func(context.Context) error {
			_, err := os.Stat(s.path("nginx.pid"))
			return err
		},
	}
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

// startRouter starts nginx with the configuration that the stack and docker-compose.yml use, in front of two fake
// pods of each kind.
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
	s, err := runRouter(t, nginx, addresses)
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
