package keyspaces

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// patience bounds every wait. It is long because a loaded machine is slow.
const patience = 2 * time.Minute

// deployment is pods of all kinds on one store.
type deployment struct {
	*pods.Deployment
	t      *testing.T
	eng    engine.Store
	stores map[string]*faults.Store // of each pod, by kind and number
}

// deploy starts per pods of each kind.
func deploy(t *testing.T, per int, change func(k config.Kind, i int, c *config.Config)) *deployment {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	b := bus.NewLocal()
	eng := testengine.Open(t, seed)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	sockets, err := os.MkdirTemp("", "hwadmin") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	d := &deployment{pods.New(t, compose.Parts{Bus: b, Log: log}, per), t, eng, map[string]*faults.Store{}}
	d.Configure = func(k config.Kind, i int, c *config.Config) {
		c.KeyspaceDomain = domain
		c.ListenAdminURLs = []string{"unix://" + filepath.Join(sockets, c.Name)}
		if change != nil {
			change(k, i, c)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, k := range pods.Kinds {
		for i := range per {
			store := faults.New(eng, faults.Options{Remote: &faults.Remote{}})
			d.Parts.Engine, d.stores[fmt.Sprint(k, i)] = store, store
			if _, err := d.Start(ctx, k, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

// kill ends a pod as a crash does. The pod writes nothing more to the store, so other pods learn nothing from it.
func (d *deployment) kill(k config.Kind, i int) {
	d.t.Helper()
	d.stores[fmt.Sprint(k, i)].Crash()
	if err := d.pod(k, i).Close(); err != nil {
		d.t.Log("a pod that was killed:", err)
	}
}

// commits returns how often all pods have committed.
func (d *deployment) commits() (n int64) {
	for _, s := range d.stores {
		trips := s.Trips()
		n += trips[faults.TripCommit]
	}
	return n
}

// pod is the i-th pod of a kind.
func (d *deployment) pod(k config.Kind, i int) *compose.Server {
	return d.Node(k, i).(*compose.Server)
}

// create creates keyspaces through the admin API of a kv pod.
func (d *deployment) create(names ...string) {
	d.t.Helper()
	a := adminOf(d.t, d.pod(config.KV, 0))
	for _, n := range names {
		if _, err := a.Create(d.t.Context(), &adminv1.CreateRequest{Name: n}); err != nil {
			d.t.Fatal(err)
		}
	}
}

// client returns a client of one pod, whose host name names the keyspace; "" stands for the first.
func (d *deployment) client(k config.Kind, i int, name string) *clientv3.Client {
	d.t.Helper()
	o := []grpc.DialOption{}
	if name != "" {
		o = append(o, grpc.WithAuthority(name+"."+domain))
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{d.Addr(k, i)}, DialOptions: o, Logger: zap.NewNop(), DialTimeout: patience,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// context returns a context that bounds the test's waits.
func (d *deployment) context() context.Context {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	d.t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}

// TestFoundationDB reports whether this run uses a FoundationDB cluster. The tests of standalone servers do not.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// TestPodsWholeEtcds: through every pod a keyspace is a whole etcd, and no data of one keyspace appear in another.
func TestPodsWholeEtcds(t *testing.T) {
	t.Parallel() // it waits for most of its time
	d := deploy(t, 2, nil)
	names := []string{"a", "b", "c"}
	d.create(names...)
	ctx := d.context()
	first := d.client(config.KV, 0, "")
	put(t, first, "k", "first")
	clusters := map[uint64]bool{}
	for i, n := range names {
		// Each keyspace uses pods of another kind. Calls that a pod does not own it relays with the keyspace's
		// name.
		writer, watcher := d.client(pods.Kinds[i], 0, n), d.client(pods.Kinds[(i+1)%3], 1, n)
		watch := watcher.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		if r := <-watch; !r.Created {
			t.Fatal(n, r)
		}
		for j := range 3 {
			put(t, writer, "k", fmt.Sprint(n, j))
		}
		for seen := 0; seen < 3; {
			r, ok := <-watch
			if !ok {
				t.Fatal(n, "the watch has ended")
			}
			for _, e := range r.Events {
				if want := fmt.Sprint(n, seen); string(e.Kv.Value) != want {
					t.Errorf("%s: event %q, want %q", n, e.Kv.Value, want)
				}
				seen++
			}
		}
		lease, err := writer.Grant(ctx, 1000)
		if err != nil {
			t.Fatal(n, err)
		}
		if _, err := watcher.KeepAliveOnce(ctx, lease.ID); err != nil {
			t.Error(n, err)
		}
		put(t, writer, "leased", n, clientv3.WithLease(lease.ID))
		r, err := watcher.Get(ctx, "k")
		if err != nil {
			t.Fatal(err)
		}
		var physical []clientv3.CompactOption
		if i == 0 { // only one, because removal waits a while for hubs that are behind
			physical = append(physical, clientv3.WithCompactPhysical())
		}
		if _, err := writer.Compact(ctx, r.Header.Revision, physical...); err != nil {
			t.Error(n, err) // some pod must remove what has been compacted
		}
		session, err := concurrency.NewSession(watcher)
		if err != nil {
			t.Fatal(err)
		}
		if err := concurrency.NewMutex(session, "m").Lock(ctx); err != nil {
			t.Error(n, err) // every keyspace has this lock, all held at the same time
		}
		clusters[r.Header.ClusterId] = true
	}
	if len(clusters) != len(names) {
		t.Errorf("%d cluster ids of %d keyspaces", len(clusters), len(names))
	}
	if v := get(t, first, "k"); v != "first" || get(t, first, "leased") != "" {
		t.Errorf("the first keyspace has %q", v)
	}
	for _, n := range names {
		for i, k := range pods.Kinds {
			c := d.client(k, i%2, n)
			if v := get(t, c, "k"); v != n+"2" {
				t.Errorf("%s: %q", n, v)
			}
			leases, err := c.Leases(ctx)
			if err != nil || len(leases.Leases) != 2 {
				t.Errorf("%s: leases %v, %v", n, leases, err)
			}
		}
	}
	leases, err := first.Leases(ctx)
	if err != nil || len(leases.Leases) != 0 {
		t.Errorf("the first keyspace has leases %v, %v", leases, err)
	}
}

// TestPodsRefuse: pods refuse calls to keyspaces that they do not serve, with the keyspace's name, and leave keyspaces
// alone that other pods have to themselves.
func TestPodsRefuse(t *testing.T) {
	d := deploy(t, 1, nil)
	ctx, root := d.context(), []byte(config.DefaultRoot)
	if _, err := keyspace.Open(ctx, d.eng, root, "own"); err != nil { // as pods with --keyspace do
		t.Fatal(err)
	}
	if _, err := keyspace.Create(ctx, d.eng, root, "early", nil); err != nil { // without asking these pods
		t.Fatal(err)
	}
	for _, k := range pods.Kinds {
		for name, want := range map[string]codes.Code{
			"none": codes.NotFound, "own": codes.FailedPrecondition, "early": codes.FailedPrecondition,
		} {
			c := d.client(k, 0, name)
			refused := func(what string, err error) {
				if code(err) != want {
					t.Errorf("%s of %s through %s: %v, want %v", what, name, k, err, want)
				}
			}
			_, err := c.Get(ctx, "k")
			refused("get", err)
			_, err = c.Grant(ctx, 10)
			refused("grant", err)
			_, err = c.MemberList(ctx)
			refused("member list", err)
			for r := range c.Watch(ctx, "k") {
				refused("watch", r.Err())
			}
		}
	}
	d.create("late")
	put(t, d.client(config.LeaseKeeper, 0, "early"), "k", "v")
	if _, err := d.client(config.KV, 0, "own").Get(ctx, "k"); code(err) != codes.FailedPrecondition {
		t.Error(err)
	}
	c := d.Config(config.KV, 1)
	c.Keyspace, c.ListenClientURLs, c.ListenMetricsURLs = "late", []string{"http://127.0.0.1:0"}, nil
	if n, err := pods.Start(ctx, config.KV, c, d.Parts); err == nil {
		n.Close()
		t.Error("pods serve a keyspace alone that all pods should serve")
	}
}
