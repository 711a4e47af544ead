package pods

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
)

// Deployment is pods of all kinds that serve one keyspace.
type Deployment struct {
	// Parts are what pods get. Engine must be set. Without a Bus each hub follows the log by itself.
	Parts compose.Parts
	// Per is how many pods of each kind there are.
	Per int
	// Configure, if not nil, changes what Config has made.
	Configure func(k config.Kind, i int, c *config.Config)

	dir   string
	nodes map[place]compose.Node // the pod of each place that was started last
}

// place is the i-th pod of a kind.
type place struct {
	kind config.Kind
	i    int
}

// New makes a deployment of per pods of each kind and starts none of them. It is closed with the test.
func New(tb testing.TB, parts compose.Parts, per int) *Deployment {
	tb.Helper()
	dir, err := os.MkdirTemp("", "hwpods") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		tb.Fatal(err)
	}
	d := &Deployment{Parts: parts, Per: per, dir: dir, nodes: make(map[place]compose.Node)}
	tb.Cleanup(func() {
		if err := d.Close(); err != nil {
			tb.Error("close:", err)
		}
		os.RemoveAll(dir)
	})
	return d
}

// Start starts the i-th pod of a kind, whose predecessor must have been closed. ctx bounds the start.
func (d *Deployment) Start(ctx context.Context, k config.Kind, i int) (compose.Node, error) {
	n, err := Start(ctx, k, d.Config(k, i), d.Parts)
	if err != nil {
		return nil, fmt.Errorf("%s pod %d: %w", k, i, err)
	}
	d.nodes[place{k, i}] = n
	return n, nil
}

// StartAll starts all pods. If one cannot be started, those that have been started stay until Close.
func (d *Deployment) StartAll(ctx context.Context) error {
	for _, k := range Kinds {
		for i := range d.Per {
			if _, err := d.Start(ctx, k, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// Node returns the pod that was last started as the i-th of a kind, or nil.
func (d *Deployment) Node(k config.Kind, i int) compose.Node { return d.nodes[place{k, i}] }

// Close closes all pods at the same time, without draining them. All may be started again.
func (d *Deployment) Close() error {
	var errs []error
	for _, n := range d.nodes {
		errs = append(errs, n.Close())
	}
	clear(d.nodes)
	return errors.Join(errs...)
}

// Config returns the configuration of the i-th pod of a kind.
func (d *Deployment) Config(k config.Kind, i int) config.Config {
	c := config.Default(k)
	c.Name = name(k, i)
	c.ListenClientURLs = []string{d.Endpoint(k, i), "http://127.0.0.1:0"}
	c.ListenMetricsURLs = []string{d.MetricsEndpoint(k, i)}
	c.AdvertiseClientURLs = nil
	c.KVEndpoints, c.WatchHubEndpoints, c.LeaseKeeperEndpoints =
		d.Endpoints(config.KV), d.Endpoints(config.WatchHub), d.Endpoints(config.LeaseKeeper)
	if k == config.WatchHub {
		c.DataDir = filepath.Join(d.dir, c.Name+".data")
	}
	if d.Configure != nil {
		d.Configure(k, i, &c)
	}
	return c
}

func name(k config.Kind, i int) string { return fmt.Sprint(k, "-", i) }

// Endpoint returns the unix:// address of the i-th pod of a kind, whether the pod runs or not.
func (d *Deployment) Endpoint(k config.Kind, i int) string {
	return "unix://" + filepath.Join(d.dir, name(k, i))
}

// MetricsEndpoint returns the unix:// address at which the i-th pod of a kind answers probes and serves metrics.
func (d *Deployment) MetricsEndpoint(k config.Kind, i int) string {
	return d.Endpoint(k, i) + ".metrics"
}

// Endpoints returns the unix:// addresses of a kind's pods.
func (d *Deployment) Endpoints(k config.Kind) (all []string) {
	for i := range d.Per {
		all = append(all, d.Endpoint(k, i))
	}
	return all
}

// Addr returns the host:port at which the i-th pod of a kind serves gRPC and HTTP. The pod must run. The address
// changes with each start.
func (d *Deployment) Addr(k config.Kind, i int) string {
	type advertiser interface{ AdvertisedURLs() []string }
	for _, s := range d.Node(k, i).(advertiser).AdvertisedURLs() {
		if u, err := url.Parse(s); err == nil && u.Scheme == "http" {
			return u.Host
		}
	}
	return ""
}
