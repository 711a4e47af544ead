package pods

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// patience bounds every wait. It is long because a loaded machine is slow.
const patience = 2 * time.Minute

// deployment is an engine, a bus, and the pods on them.
type deployment struct {
	*pods.Deployment
	t *testing.T
}

// deploy makes a deployment of per pods of each kind, and starts none of them.
func deploy(t *testing.T, per int) *deployment {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	engine := testengine.Open(t, seed)
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	b := bus.NewLocal()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	d := &deployment{pods.New(t, compose.Parts{Engine: engine, Bus: b, Log: log}, per), t}
	d.Configure = func(_ config.Kind, _ int, c *config.Config) {
		c.WatchProgressNotifyInterval = 100 * time.Millisecond
	}
	return d
}

// start starts the i-th pod of a kind. If the pod is not closed before, it is closed with the test.
func (d *deployment) start(k config.Kind, i int) compose.Node {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	n, err := d.Start(ctx, k, i)
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

func closeNode(t *testing.T, n compose.Node) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Error("close:", err)
	}
}

// startAll starts all pods.
func (d *deployment) startAll() {
	d.t.Helper()
	for _, k := range pods.Kinds {
		for i := range d.Per {
			d.start(k, i)
		}
	}
}

// client returns a client of one or more addresses.
func (d *deployment) client(endpoints ...string) *clientv3.Client {
	d.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// get requests a path from a pod's metrics address.
func (d *deployment) get(k config.Kind, i int, path string) (code int, body string) {
	d.t.Helper()
	transport := &http.Transport{
		DialContext: dialUnix(d.MetricsEndpoint(k, i)[len("unix://"):]), DisableKeepAlives: true,
	}
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
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}
