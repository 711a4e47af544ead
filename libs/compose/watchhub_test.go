package compose

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/watch"
)

type fixture struct {
	t    *testing.T
	node *Server
	hub  *followingHub
	conn *grpc.ClientConn
}

// startHub starts a watchhub pod; its hub is told apart to be stalled.
func startHub(ctx context.Context, c config.Config, p Parts) (*Server, *followingHub, error) {
	var hub *followingHub
	s, err := open(ctx, config.WatchHub, c, p, []func(*Keyspace) part{func(k *Keyspace) part {
		hub = newFollowingHub(k)
		return hub.part()
	}})
	if err != nil {
		return nil, nil, err
	}
	return s, hub, s.begin(ctx)
}

// newFixture starts a watchhub pod on an engine of its own.
func newFixture(t *testing.T,
	start func(context.Context, config.Config, Parts) (*Server, *followingHub, error),
) *fixture {
	t.Helper()
	e := testengine.Open(t, 0)
	b := bus.NewLocal()
	c := config.Default(config.KV)
	c.ListenClientURLs = []string{"http://127.0.0.1:0"}
	c.KVEndpoints, c.LeaseKeeperEndpoints = []string{nobody}, []string{nobody}
	c.DataDir = filepath.Join(t.TempDir(), "data")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n, hub, err := start(ctx, c, Parts{Engine: e, Bus: b, OpenHistory: openTestHistory})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(strings.TrimPrefix(n.URL(), "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fixture{t, n, hub, conn}
}

func (f *fixture) put(key string) int64 {
	f.t.Helper()
	r, err := f.node.Store.Put(f.t.Context(), &mvcc.PutRequest{Key: []byte(key), Value: []byte("v")})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Rev
}

// watch opens a stream with a watch of everything from rev on.
func (f *fixture) watch(rev int64) pb.Watch_WatchClient {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	f.t.Cleanup(cancel)
	s, err := pb.NewWatchClient(f.conn).Watch(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	create := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
		Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: rev,
	}}}
	if err := s.Send(create); err != nil {
		f.t.Fatal(err)
	}
	if r, err := s.Recv(); err != nil || !r.Created {
		f.t.Fatal(r, err)
	}
	return s
}

// expect receives the events of revisions, and nothing else.
func (f *fixture) expect(s pb.Watch_WatchClient, revs ...int64) {
	f.t.Helper()
	for len(revs) > 0 {
		r, err := s.Recv()
		if err != nil || len(r.Events) > len(revs) {
			f.t.Fatal(r, err)
		}
		for i, ev := range r.Events {
			if ev.Kv.ModRevision != revs[i] {
				f.t.Fatal(ev, revs)
			}
		}
		revs = revs[len(r.Events):]
	}
}

func (f *fixture) expectEnd(s pb.Watch_WatchClient) {
	f.t.Helper()
	if r, err := s.Recv(); status.Code(err) != codes.Unavailable {
		f.t.Fatal(r, err)
	}
}

func (f *fixture) serving() bool {
	f.t.Helper()
	r, err := healthpb.NewHealthClient(f.conn).Check(f.t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	return r.Status == healthpb.HealthCheckResponse_SERVING
}

// TestStall: a hub that is behind lets its streams go and takes none until it has caught up.
func TestStall(t *testing.T) {
	f := newFixture(t, startHub)
	s := f.watch(0)
	f.expect(s, f.put("a"))
	if !f.serving() {
		t.Error("not ready")
	}
	f.hub.stall(true)
	f.expectEnd(s)
	if f.serving() {
		t.Error("ready while it is behind")
	}
	refused, err := pb.NewWatchClient(f.conn).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.expectEnd(refused)
	missed := f.put("b")
	f.hub.stall(false)
	if !f.serving() {
		t.Error("not ready after it has caught up")
	}
	s = f.watch(missed)
	f.expect(s, missed)
	f.expect(s, f.put("c"))
	// A pod that stops does not come back because its hub catches up.
	f.hub.stall(true)
	f.expectEnd(s)
	f.node.Drain(t.Context())
	f.hub.stall(false)
	if s, err := f.hub.gate.OpenOn(nil); err == nil {
		t.Error("a stream of a pod that has drained")
		s.Close()
	}
}

// TestGate walks all orders of what shuts and opens the gate: streams enter if and only if there is a hub, it is not
// behind, and the pod is not stopping, and those inside end with what shuts it. No order of events gets a drained gate
// to open, be it that the hub catches up or is replaced.
func TestGate(t *testing.T) {
	const events = 4 // per order
	newHub := func() *watch.Hub {
		hub := watch.New(watch.Options{})
		hub.Start(struct{ watch.Log }{}, 1) // never read
		return hub
	}
	kinds := []string{"behind", "caught up", "drain", "replace"}
	for order := range int(math.Pow(float64(len(kinds)), events)) {
		synctest.Test(t, func(t *testing.T) {
			var g gate
			g.replace(newHub())
			var behind, draining bool
			var told []string
			for range events {
				inside, insideErr := g.OpenOn(nil)
				kind := kinds[order%len(kinds)]
				order /= len(kinds)
				told = append(told, kind)
				switch kind {
				case "behind":
					g.stall(true)
					behind = true
				case "caught up":
					g.stall(false)
					behind = false
				case "drain":
					g.drain()
					draining = true
				case "replace":
					g.replace(newHub()).Close()
				}
				s, err := g.OpenOn(nil)
				if (err == nil) == (behind || draining) || err != nil && !errors.Is(err, watch.ErrStopped) {
					t.Errorf("after %v: %v", told, err)
				}
				if err == nil {
					s.Close()
				}
				if insideErr != nil {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, err = inside.Next(ctx)
				if ended := errors.Is(err, watch.ErrStopped); ended != (kind != "caught up") {
					t.Errorf("after %v: a stream from before: %v", told, err)
				}
				cancel()
				inside.Close()
			}
			g.replace(nil).Close()
		})
	}
}

// TestReset: the hub is replaced; streams end, and their clients get the rest from the new one.
func TestReset(t *testing.T) {
	f := newFixture(t, func(ctx context.Context, c config.Config, p Parts) (*Server, *followingHub, error) {
		// A pod whose follower is the test.
		var hub *followingHub
		s, err := open(ctx, config.WatchHub, c, p, []func(*Keyspace) part{func(k *Keyspace) part {
			hub = newFollowingHub(k)
			return part{
				open:     func(context.Context) error { hub.open(); return nil },
				register: func(r grpc.ServiceRegistrar) { k.watchOf(&hub.gate)(r) },
				watch:    hub.stats,
			}
		}})
		if err != nil {
			return nil, nil, err
		}
		hub.ctx = s.Deployment.background
		return s, hub, s.begin(ctx)
	})
	n := f.hub
	if n.stats().Streams != 0 {
		t.Error("a hub before there is one")
	}
	apply := func(from int64) {
		t.Helper()
		entries, _, _, err := f.node.Store.ReadPayloads(t.Context(), from, 10, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		n.apply(entries)
	}
	first := f.put("a")
	n.reset(first - 1)
	apply(first)
	s := f.watch(first)
	f.expect(s, first)
	lost, last := f.put("b"), f.put("c") // of these the first hub never hears
	n.reset(last)
	f.expectEnd(s)
	s = f.watch(lost)
	f.expect(s, lost, last)
	next := f.put("d")
	apply(next)
	f.expect(s, next)
}
