package shards_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/lease/shards"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/wire"
)

func TestMain(m *testing.M) { leaktest.Main(m, testengine.IgnoreThreads()) }

// TestFoundationDB says whether this run has a cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// cluster is pods on one engine, each with a server of its own, in memory.
type cluster struct {
	t      *testing.T
	inner  engine.Store
	faults faults.Options
	admin  *mvcc.Store // nobody's

	mu   sync.Mutex
	pods map[string]*pod
}

func newCluster(t *testing.T, f faults.Options) *cluster {
	t.Helper()
	return newClusterWith(t, f, mvcc.FeaturesAll)
}

// newClusterWith is newCluster with a keyspace that has some features.
func newClusterWith(t *testing.T, f faults.Options, features mvcc.Features) *cluster {
	t.Helper()
	inner := testengine.OpenInBubble(t, 0)
	admin, err := mvcc.Open(t.Context(), inner, mvcc.Options{Prefix: []byte("d"), Features: features})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, inner: inner, faults: f, admin: admin, pods: map[string]*pod{}}
	t.Cleanup(func() {
		for _, p := range c.pods {
			p.stop()
		}
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// pod is one process.
type pod struct {
	c        *cluster
	addr     string
	eng      *faults.Store
	store    *mvcc.Store
	shards   *shards.Shards
	server   *grpc.Server
	listener *bufconn.Listener
	client   pb.LeaseClient // of the test
	conn     *grpc.ClientConn
	cancel   context.CancelFunc
	ended    chan error
	gate     gate
}

// gate holds up whoever passes while it is shut.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // nil: open
}

func (g *gate) pass() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open != nil {
		<-open
	}
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == nil {
		g.open = make(chan struct{})
	}
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		close(g.open)
		g.open = nil
	}
}

// gated is a stream of a pod that may be paused.
type gated struct {
	grpc.ServerStream
	g *gate
}

func (s gated) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	s.g.pass()
	return err
}

func (s gated) SendMsg(m any) error {
	s.g.pass()
	return s.ServerStream.SendMsg(m)
}

// startsMax is how often a pod is started if the store does not answer in time, as a busy cluster may not: in a bubble
// a start waits for the round trips of all others, and what it reads at becomes too old after five seconds.
const startsMax = 10

// start adds a pod.
func (c *cluster) start(addr string) *pod {
	c.t.Helper()
	p := &pod{c: c, addr: addr, listener: bufconn.Listen(1 << 16), ended: make(chan error, 1)}
	o := c.faults
	delay := o.Delay
	o.Delay = func(ctx context.Context, op faults.Op) {
		if delay != nil {
			delay(ctx, op)
		}
		p.gate.pass()
	}
	p.eng = faults.New(c.inner, o)
	p.eng.Pause(true)
	var err error
	for range startsMax {
		p.store, err = mvcc.Open(c.t.Context(), p.eng, mvcc.Options{Prefix: []byte("d"), Lanes: 2})
		if !errors.Is(err, mvcc.ErrUnavailable) {
			break
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	p.eng.Pause(false)
	p.shards, err = shards.New(p.store, p.eng, []byte("c"), shards.Options{Self: addr, Dial: c.dial, Keeper: lease.Options{MinTTL: 1}})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.ended <- p.shards.Run(ctx) }()
	p.server = grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo,
			h grpc.UnaryHandler,
		) (any, error) {
			p.gate.pass()
			res, err := h(ctx, req)
			p.gate.pass()
			return res, err
		}),
		grpc.StreamInterceptor(func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo,
			h grpc.StreamHandler,
		) error {
			return h(srv, gated{s, &p.gate})
		}))
	etcdapi.RegisterShardedLease(p.server, p.shards, etcdapi.Header{ClusterID: 1, MemberID: 2, RaftTerm: 2}, p.store)
	go func() { _ = p.server.Serve(p.listener) }()
	c.mu.Lock()
	c.pods[addr] = p
	c.mu.Unlock()
	p.conn = c.connect(addr)
	p.client = pb.NewLeaseClient(p.conn)
	return p
}

// connect returns a connection to whatever pod has the address at the time.
func (c *cluster) connect(addr string) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c.mu.Lock()
			p := c.pods[addr]
			c.mu.Unlock()
			if p == nil {
				return nil, fmt.Errorf("no pod at %s", addr)
			}
			return p.listener.DialContext(ctx)
		}))
	if err != nil {
		c.t.Error(err)
	}
	return conn
}

// remote is a client with its connection.
type remote struct {
	pb.LeaseClient
	*grpc.ClientConn
}

func (c *cluster) dial(addr string) (pb.LeaseClient, error) {
	conn := c.connect(addr)
	return remote{pb.NewLeaseClient(conn), conn}, nil
}

func (c *cluster) remove(p *pod) {
	c.mu.Lock()
	delete(c.pods, p.addr)
	c.mu.Unlock()
}

// stop ends a pod as it should be ended.
func (p *pod) stop() {
	p.c.remove(p)
	p.gate.reopen()
	p.cancel()
	if err := <-p.ended; err != nil {
		p.c.t.Errorf("%s: Run: %v", p.addr, err)
	}
	p.close()
}

// kill ends a pod at once: it writes nothing any more.
func (p *pod) kill() {
	p.c.remove(p)
	p.eng.Crash()
	p.gate.reopen()
	p.server.Stop()
	p.cancel()
	if err := <-p.ended; err != nil {
		p.c.t.Errorf("%s: Run: %v", p.addr, err)
	}
	p.close()
}

func (p *pod) close() {
	p.server.Stop()
	if err := p.conn.Close(); err != nil {
		p.c.t.Error(err)
	}
	if err := p.store.Close(); err != nil {
		p.c.t.Error(err)
	}
}

// await polls a condition, in the bubble's time.
func await(t *testing.T, what string, within time.Duration, f func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !f() {
		if time.Since(start) > within {
			t.Errorf("%s: not within %v", what, within)
			break
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

// placed reports whether each shard is kept by the one of the given pods that is to own it, and by no other. A pod may
// be to own none: of pods 1, 3 and 4 the first.
func placed(pods ...*pod) bool {
	addrs := make([]string, len(pods))
	for i, p := range pods {
		addrs[i] = p.addr
	}
	n := 0
	for _, p := range pods {
		for _, shard := range p.shards.Owned() {
			if shards.Preferred(shard, addrs) != p.addr {
				return false
			}
			n++
		}
	}
	return n == shards.Count
}

// spread waits until the given pods have had the shards between them for settles. At a start they may be placed for
// a moment, and shards move once more. What a test asks for then may be answered Unavailable, as it is when a keeper
// ends.
func spread(t *testing.T, pods ...*pod) {
	t.Helper()
	const settles = 2 * shards.DefaultTTL
	var since time.Time
	await(t, "shards spread", 10*time.Second, func() bool {
		switch now := time.Now(); {
		case !placed(pods...):
			since = time.Time{}
		case since.IsZero():
			since = now
		default:
			return now.Sub(since) >= settles
		}
		return false
	})
}

// keepAlive renews a lease once, by a stream of its own.
func (p *pod) keepAlive(ctx context.Context, id int64) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.client.LeaseKeepAlive(ctx)
	if err != nil {
		return 0, err
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return 0, err
	}
	r, err := stream.Recv()
	if err == nil && r.ID != id {
		err = fmt.Errorf("renewal of %d answered for %d", id, r.ID)
	}
	return r.GetTTL(), err
}
