package node

import (
	"context"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/lease/shards"
	"github.com/headwaterdb/headwater/libs/pod"
	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/wiring"
)

// Node is a leasekeeper pod that serves.
type Node struct {
	*pod.Pod
	shards *shards.Shards
}

// Start opens a leasekeeper pod and serves. It returns when the pod is ready. The caller must Close the Node.
func Start(ctx context.Context, c pod.Config, d pod.Deps) (*Node, error) {
	return pod.Start(ctx, pod.LeaseKeeper, c, d, open)
}

func open(ctx context.Context, p *pod.Pod) (*Node, error) {
	n := &Node{Pod: p}
	address, err := p.Address()
	if err != nil {
		return nil, err
	}
	n.shards, err = shards.New(p.Store, p.Engine, append(slices.Clone(p.Keyspace.Coordination), "lease/"...),
		shards.Options{Self: address, Dial: n.dial, Logger: p.Log})
	if err != nil {
		return nil, err
	}
	// A NOSPACE alarm refuses grants.
	if _, err := p.OpenAlarms(ctx); err != nil {
		return nil, err
	}
	etcdapi.RegisterLease(p.GRPC, n.shards, p.Header, p.Store)
	// Serving comes first: other pods forward to this one as soon as it owns a shard.
	p.Serve(pod.Service{Parts: wiring.Parts{Collectors: []prometheus.Collector{n.shards}}, Leave: n.leave})
	p.Go("leases", n.shards.Run)
	return n, p.AwaitReady(ctx, n.shards.Ready(), "owners of all shards of leases")
}

// leave hands the shards over.
func (n *Node) leave(ctx context.Context) {
	if err := n.shards.Drain(ctx); err != nil {
		n.Log.Warn("not all shards of leases have been handed over", "error", err)
	}
}

// client is the Lease service of another pod.
type client struct {
	pb.LeaseClient
	pool *relay.Pool
}

// Close implements io.Closer.
func (c client) Close() error { return c.pool.Close() }

// dial connects to another leasekeeper. Its health does not count: a pod that drains still answers for its shards.
func (n *Node) dial(address string) (pb.LeaseClient, error) {
	pool, err := relay.NewPool(relay.Options{
		Name: "leasekeeper", Endpoints: []string{address}, Keepalive: n.Config.KeepaliveMinTime, AnyHealth: true,
	})
	if err != nil {
		return nil, err
	}
	return client{pb.NewLeaseClient(pool.Conn()), pool}, nil
}
