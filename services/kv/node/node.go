package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/compactor"
	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/pod"
	"github.com/headwaterdb/headwater/libs/wiring"
)

// compactorTTL is how long the compactor's place stays taken after its pod has died. Nobody waits for it.
const compactorTTL = 3 * time.Second

// Node is a kv pod that serves.
type Node struct {
	*pod.Pod
	alarms *etcdapi.Alarms
}

// Start opens a kv pod and serves. It returns when the pod is ready. The caller must Close the Node.
func Start(ctx context.Context, c pod.Config, d pod.Deps) (*Node, error) {
	return pod.Start(ctx, pod.KV, c, d, open)
}

func open(ctx context.Context, p *pod.Pod) (*Node, error) {
	n := &Node{Pod: p}
	var err error
	if n.alarms, err = p.OpenAlarms(ctx); err != nil {
		return nil, err
	}
	if err := n.register(); err != nil {
		return nil, err
	}
	if err := n.startCompactor(); err != nil {
		return nil, err
	}
	p.Serve(pod.Service{Parts: wiring.Parts{Alarms: n.alarms.Alarms}})
	p.SetReady(true, "")
	return n, nil
}

// register registers the services that a kv pod owns.
func (n *Node) register() error {
	p, c := n.Pod, n.Config
	bounds := wiring.KV(c.Config)
	kv := func(r grpc.ServiceRegistrar) { etcdapi.RegisterKV(r, p.Store, p.Header, bounds) }
	kv(p.GRPC)
	// The member is the deployment, so all pods call it the same.
	etcdapi.RegisterCluster(p.GRPC, p.Header, etcdapi.Member{Name: c.Keyspace, ClientURLs: p.AdvertisedURLs()})
	etcdapi.RegisterMaintenance(p.GRPC, p.Header, p.Store, n.alarms, 0)
	etcdapi.RegisterAuth(p.GRPC, p.Header, p.Store)
	local, err := etcdapi.NewLocalClient(func(r grpc.ServiceRegistrar) {
		kv(r)
		p.Relay(r, pod.WatchHub)
		p.Relay(r, pod.LeaseKeeper)
	})
	if err != nil {
		return err
	}
	p.OnClose(local.Close)
	etcdapi.RegisterLock(p.GRPC, local.Client())
	etcdapi.RegisterElection(p.GRPC, local.Client())
	return nil
}

// startCompactor campaigns for the place of the compactor.
func (n *Node) startCompactor() error {
	c := n.Config
	// The planner is made anew for each term: it notes heads over time.
	if _, err := compactor.Parse(c.AutoCompactionMode, c.AutoCompactionRetention); err != nil {
		return err
	}
	candidate, err := election.New(n.Engine, election.Options{
		Key:    append(slices.Clone(n.Keyspace.Coordination), "compactor/"...),
		Holder: "kv " + c.Name + " " + n.URL(),
		TTL:    compactorTTL,
		Logger: n.Log,
	})
	if err != nil {
		return err
	}
	n.Go("compactor", func(ctx context.Context) error { return candidate.Run(ctx, n.compact) })
	return nil
}

// compact does the work of the compactor until its term ends.
func (n *Node) compact(ctx context.Context, _ *election.Term) error {
	planner, err := compactor.Parse(n.Config.AutoCompactionMode, n.Config.AutoCompactionRetention)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	if planner != nil {
		wg.Go(func() { compactor.Run(ctx, n.Log, planner, n.Store, mvcc.ErrCompacted) })
	}
	if err := keyspace.Sweep(ctx, n.Engine, []byte(n.Config.FDBRoot)); err != nil && ctx.Err() == nil {
		n.Log.Warn("what is left of deleted keyspaces could not be swept; the next compactor will try", "error", err)
	}
	n.Store.RemoveCompacted(ctx)
	return nil
}
