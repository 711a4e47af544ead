package compose

import (
	"bytes"
	"context"
	"errors"
	"net/http"
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
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

const patience = 2 * time.Minute

func testEngine(t *testing.T) engine.Store {
	t.Helper()
	return testengine.Open(t, 0)
}

// nobody is an endpoint where nobody listens.
const nobody = "unix:///nonexistent"

func testConfig() config.Config {
	c := config.Default(config.KV)
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	c.KVEndpoints, c.WatchHubEndpoints, c.LeaseKeeperEndpoints = []string{nobody}, []string{nobody}, []string{nobody}
	return c
}

// bare opens a pod without the parts of its kind.
func bare(ctx context.Context, k config.Kind, c config.Config, p Parts) (*Server, error) {
	return open(ctx, k, c, p, nil)
}

// serveBare serves a pod that bare has opened. It is not ready.
func serveBare(t *testing.T, s *Server) {
	t.Helper()
	if err := s.keyspaces.first.register(); err != nil {
		t.Fatal(err)
	}
	s.keyspaces.dispatch(s.GRPC)
	s.keyspaces.shown = s.keyspaces.show()
	if err := s.serve(s.keyspaces); err != nil {
		t.Fatal(err)
	}
}

func openPod(t *testing.T, c config.Config, parts ...func(*Keyspace) part) *Server {
	t.Helper()
	p, err := open(t.Context(), config.KV, c, Parts{Engine: testEngine(t)}, parts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func dial(t *testing.T, p *Server) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(strings.TrimPrefix(p.URL(), "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func readyz(t *testing.T, p *Server) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	r, err := client.Get(p.URL() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, b.String()
}

func serving(t *testing.T, c *grpc.ClientConn) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := healthpb.NewHealthClient(c).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return r.Status
}

// TestReadiness: the two kinds of health checks agree, from start to stop.
func TestReadiness(t *testing.T) {
	p := openPod(t, testConfig())
	serveBare(t, p)
	c := dial(t, p)
	expect := func(ready bool, reason string) {
		t.Helper()
		code, body := readyz(t, p)
		if s := serving(t, c); (s == healthpb.HealthCheckResponse_SERVING) != ready || (code == 200) != ready ||
			!strings.Contains(body, reason) {
			t.Errorf("%v, %d %s, want %v", s, code, body, ready)
		}
	}
	expect(false, "[-]serving failed: starting")
	p.SetReady(true, "")
	expect(true, "")
	p.SetReady(false, "behind")
	expect(false, "behind")
	p.SetReady(true, "")
	// What nobody serves, and what another kind owns.
	var resp pb.LeaseGrantResponse
	if err := c.Invoke(t.Context(), "/etcdserverpb.Lease/LeaseGrant", &pb.LeaseGrantRequest{},
		&resp); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if err := c.Invoke(t.Context(), "/etcdserverpb.Lease/NoSuch", &pb.LeaseGrantRequest{},
		&resp); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	p.Fail(errors.New("the keyspace is gone"))
	p.SetReady(true, "") // a hub that has caught up, say
	p.Fail(errors.New("another reason"))
	expect(false, "the keyspace is gone")
}

// TestStoreCheck: a pod that cannot reach its store is not ready until it can.
func TestStoreCheck(t *testing.T) {
	p := openPod(t, testConfig())
	serveBare(t, p)
	p.SetReady(true, "")
	var down error
	c := storeCheck{
		read: func(context.Context) error { return down },
		tell: p.ready.setStore, log: p.Log,
	}
	expect := func(ready bool) {
		t.Helper()
		if code, body := readyz(t, p); (code == http.StatusOK) != ready {
			t.Errorf("%d %s, want ready %v", code, body, ready)
		}
	}
	for range 2 { // a failure now and then is nothing
		down = errors.New("unavailable")
		for range storeFailuresMax - 1 {
			c.once(t.Context())
		}
		expect(true)
		down = nil
		c.once(t.Context())
	}
	down = errors.New("unavailable")
	for range 2 * storeFailuresMax {
		c.once(t.Context())
	}
	expect(false)
	if _, body := readyz(t, p); !strings.Contains(body, "the store cannot be reached: unavailable") {
		t.Error(body)
	}
	p.SetReady(true, "") // is about the kind's own parts
	expect(false)
	down = nil
	c.once(t.Context())
	expect(true)
}

// TestStoreCheckReads: an alarm that this release does not know is no reason to be unready, a format is.
func TestStoreCheckReads(t *testing.T) {
	p := openPod(t, testConfig())
	k := p.keyspaces.first
	expect := func(want error) {
		t.Helper()
		if err := k.readAlarms(t.Context()); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	expect(nil)
	if err := k.Store.SetAlarm(t.Context(), "of a later release", true); err != nil {
		t.Fatal(err)
	}
	expect(nil)
	x, err := p.Engine.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Discard()
	row := append(bytes.Clone(k.Place.Prefix), 'd')
	head, err := x.Get(t.Context(), row)
	if err != nil || len(head) == 0 {
		t.Fatalf("the head is %q, %v", head, err)
	}
	head = bytes.Clone(head)
	head[0] |= 0x40
	x.Set(row, head)
	done, err := x.Commit(t.Context())
	if err == nil {
		_, err = done.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	expect(mvcc.ErrNewerFormat)
}

// TestDrain: the order of a stop.
func TestDrain(t *testing.T) {
	cfg := testConfig()
	cfg.ShutdownDelay = 10 * time.Minute
	var mu sync.Mutex
	var order []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	left := make(chan struct{})
	p := openPod(t, cfg, func(*Keyspace) part {
		return part{
			leave: func(context.Context) { note("leave"); close(left) },
			drain: func() { note("drain") },
		}
	})
	p.Deployment.OnClose(func() error { note("close"); return nil })
	p.Deployment.Go("worker", func(ctx context.Context) error { <-ctx.Done(); note("worker"); return ctx.Err() })
	serveBare(t, p)
	p.SetReady(true, "")
	c := dial(t, p)
	if s := serving(t, c); s != healthpb.HealthCheckResponse_SERVING {
		t.Fatal(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	drained := make(chan struct{})
	go func() { defer close(drained); p.Drain(ctx) }()
	<-left
	// Not ready, and nothing else has changed for the time of the delay.
	if s := serving(t, c); s != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Error(s)
	}
	p.SetReady(true, "")
	if code, body := readyz(t, p); code != http.StatusServiceUnavailable ||
		!strings.Contains(body, "the pod is stopping") {
		t.Error(code, body)
	}
	cancel()
	<-drained
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if want := []string{"leave", "drain", "worker", "close"}; !slices.Equal(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
	p.Drain(t.Context()) // nothing is left to drain
}

// TestFailure: a part that fails turns readiness off and tells whoever runs the pod; so does the end of the keyspace.
func TestFailure(t *testing.T) {
	p := openPod(t, testConfig())
	serveBare(t, p)
	p.SetReady(true, "")
	p.Deployment.Go("part", func(context.Context) error { return errors.New("broken") })
	if err := <-p.Failed(); err == nil || err.Error() != "part: broken" {
		t.Error(err)
	}
	if code, body := readyz(t, p); code != http.StatusServiceUnavailable || !strings.Contains(body, "part: broken") {
		t.Error(code, body)
	}
	if err := keyspace.Delete(t.Context(), p.Engine, []byte(config.DefaultRoot), config.DefaultKeyspace); err != nil {
		t.Fatal(err)
	}
	if err := <-p.Failed(); err == nil || !strings.Contains(err.Error(), "keyspace has been deleted") {
		t.Error(err)
	}
}

// TestOneMember: pods of every kind answer as one member, and pods of another keyspace as another one.
func TestOneMember(t *testing.T) {
	e := testEngine(t)
	header := func(k config.Kind, name, space string) (cluster, member uint64) {
		c := testConfig()
		c.Name, c.Keyspace = name, space
		p, err := bare(t.Context(), k, c, Parts{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		return p.Header.ClusterID, p.Header.MemberID
	}
	cluster, member := header(config.KV, "a", "default")
	for _, k := range []config.Kind{config.KV, config.WatchHub, config.LeaseKeeper} {
		if c, m := header(k, "b", "default"); c != cluster || m != member {
			t.Errorf("%s: %x %x, kv: %x %x", k, c, m, cluster, member)
		}
	}
	if c, m := header(config.KV, "a", "other"); c == cluster || m == member {
		t.Error("another keyspace is the same member")
	}
}

// fakeNode is a Node that notes what is done with it.
type fakeNode struct {
	failed  chan error
	drained bool
	closed  bool
}

func (n *fakeNode) URL() string           { return "http://fake" }
func (n *fakeNode) Drain(context.Context) { n.drained = true }
func (n *fakeNode) Close() error          { n.closed = true; return nil }
func (n *fakeNode) Failed() <-chan error  { return n.failed }

func TestRun(t *testing.T) {
	var out bytes.Buffer
	do := func(ctx context.Context, c config.Config, n *fakeNode, startErr error) error {
		start := func(context.Context, config.Kind, config.Config, Parts) (Node, error) { return n, startErr }
		return run(ctx, config.KV, config.Parsed{Config: c}, Parts{}, start, &out, &out)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	n := &fakeNode{failed: make(chan error, 1)}
	if err := do(stopped, testConfig(), n, nil); err != nil || !n.drained || !n.closed {
		t.Error("told to stop:", err, n)
	}
	n = &fakeNode{failed: make(chan error, 1)}
	n.failed <- errors.New("lost")
	if err := do(t.Context(), testConfig(), n, nil); err == nil || !strings.Contains(err.Error(), "lost") ||
		n.drained || !n.closed {
		t.Error("failed:", err, n)
	}
	if err := do(t.Context(), testConfig(), nil, errors.New("no store")); err == nil || err.Error() != "no store" {
		t.Error(err)
	}
	if err := do(stopped, testConfig(), nil, context.Canceled); err != nil {
		t.Error("told to stop while starting:", err)
	}
	if !strings.Contains(out.String(), `"msg":"starting headwater-kv"`) ||
		!strings.Contains(out.String(), `"msg":"stopped"`) {
		t.Error(out.String())
	}
}
