package pods

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/pod"
	kv "github.com/headwaterdb/headwater/services/kv/node"
	leasekeeper "github.com/headwaterdb/headwater/services/leasekeeper/node"
	watchhub "github.com/headwaterdb/headwater/services/watchhub/node"
)

// patience bounds every wait; a loaded machine is slow.
const patience = 60 * time.Second

// kinds are all kinds of pods.
var kinds = []pod.Kind{pod.KV, pod.WatchHub, pod.LeaseKeeper}

// deployment is an engine, a bus, and the pods on them. Pods listen on unix sockets, whose names are known before they start.
type deployment struct {
	t    *testing.T
	dir  string
	deps pod.Deps
	per  int // pods of each kind
}

// deploy makes a deployment of per pods of each kind, which are not started.
func deploy(t *testing.T, per int) *deployment {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	engine, err := pebble.Open("engine", pebble.Options{Sparse: true, Seed: seed, NotPipelined: true, FDBLimits: true, FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hwpods") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	b := bus.NewLocal()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return &deployment{t: t, dir: dir, per: per, deps: pod.Deps{Engine: engine, Bus: b, Log: log}}
}

// endpoint is the address of the i-th pod of a kind.
func (d *deployment) endpoint(k pod.Kind, i int) string {
	return "unix://" + filepath.Join(d.dir, string(k)+string(rune('a'+i)))
}

func (d *deployment) endpoints(k pod.Kind) (all []string) {
	for i := range d.per {
		all = append(all, d.endpoint(k, i))
	}
	return all
}

// config is that of the i-th pod of a kind.
func (d *deployment) config(k pod.Kind, i int) pod.Config {
	c := pod.DefaultConfig()
	c.Name = string(k) + string(rune('a'+i))
	c.ListenClientURLs = []string{d.endpoint(k, i)}
	c.ListenMetricsURLs = []string{d.endpoint(k, i) + ".metrics"}
	c.AdvertiseClientURLs = nil
	c.KVEndpoints, c.WatchHubEndpoints, c.LeaseKeeperEndpoints = d.endpoints(pod.KV), d.endpoints(pod.WatchHub), d.endpoints(pod.LeaseKeeper)
	c.WatchProgressNotifyInterval = 100 * time.Millisecond
	if k == pod.WatchHub {
		c.DataDir = filepath.Join(d.dir, c.Name+".data")
	}
	return c
}

// start starts the i-th pod of a kind; it is closed with the test, if not before.
func (d *deployment) start(k pod.Kind, i int) pod.Node {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	n, err := startNode(ctx, k, d.config(k, i), d.deps)
	if err != nil {
		d.t.Fatalf("%s pod: %v", k, err)
	}
	d.t.Cleanup(func() { closeNode(d.t, n) })
	return n
}

func closeNode(t *testing.T, n pod.Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Error("close:", err)
	}
}

func startNode(ctx context.Context, k pod.Kind, c pod.Config, deps pod.Deps) (pod.Node, error) {
	switch k {
	case pod.KV:
		return notNil(kv.Start(ctx, c, deps))
	case pod.WatchHub:
		return notNil(watchhub.Start(ctx, c, deps))
	}
	return notNil(leasekeeper.Start(ctx, c, deps))
}

func notNil[N pod.Node](n N, err error) (pod.Node, error) {
	if err != nil {
		return nil, err
	}
	return n, nil
}

// startAll starts all pods.
func (d *deployment) startAll() map[pod.Kind][]pod.Node {
	d.t.Helper()
	nodes := make(map[pod.Kind][]pod.Node)
	for _, k := range kinds {
		for i := range d.per {
			nodes[k] = append(nodes[k], d.start(k, i))
		}
	}
	return nodes
}

// client is a client of one or more addresses.
func (d *deployment) client(endpoints ...string) *clientv3.Client {
	d.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// get asks a pod's metrics address.
func (d *deployment) get(k pod.Kind, i int, path string) (code int, body string) {
	d.t.Helper()
	transport := &http.Transport{DialContext: dialUnix(d.endpoint(k, i)[len("unix://"):] + ".metrics"), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://localhost" + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func (d *deployment) context() context.Context {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	d.t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s in time", what)
		}
	}
}
