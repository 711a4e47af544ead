package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/bus/nats"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/feed"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/wiring"
)

// deletedPause is the time between two attempts to wait for the end of the keyspace, while the store cannot be reached.
const deletedPause = time.Second

// Deps are parts that a pod is given; what is nil it opens by its Config. They are not closed.
type Deps struct {
	Engine engine.Store
	Bus    bus.Bus
	Log    *slog.Logger // nil: discarded
}

// Pod is the part of a pod that does not depend on its kind.
type Pod struct {
	Kind     Kind
	Config   Config
	Log      *slog.Logger
	Engine   engine.Store
	Keyspace keyspace.Keyspace
	Store    *mvcc.Store
	Header   etcdapi.Header
	Bus      bus.Bus // nil: there is none
	GRPC     *server.GRPC
	// Subject is the name of the keyspace on the bus.
	Subject string
	server  *server.Server
	damage  *etcdapi.DamageAlarm
	pools   map[Kind]*relay.Pool
	ready   readiness
	run     running

	background context.Context // of Go's functions
	stop       context.CancelFunc
	wg         sync.WaitGroup
	failed     chan error     // capacity 1: why the pod can no longer serve
	onClose    []func() error // called backwards
	closeOnce  func() error
}

// Open opens everything of a pod of kind k that does not depend on its kind. The caller must Close it.
func Open(ctx context.Context, k Kind, c Config, d Deps) (_ *Pod, err error) {
	if err := c.Validate(k); err != nil {
		return nil, server.UsageError(err.Error())
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	p := &Pod{Kind: k, Config: c, Log: d.Log, Engine: d.Engine, Bus: d.Bus, pools: make(map[Kind]*relay.Pool), failed: make(chan error, 1), damage: etcdapi.NewDamageAlarm(d.Log)}
	p.background, p.stop = context.WithCancel(context.Background())
	p.closeOnce = sync.OnceValue(p.close)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.server, err = server.Listen(ctx, c.Config); err != nil {
		return nil, err
	}
	p.OnClose(func() error { p.server.Close(); return nil })
	if err := p.openStore(ctx); err != nil {
		return nil, err
	}
	if err := p.openPools(); err != nil {
		return nil, err
	}
	p.GRPC = wiring.GRPC(c.Config, p.Log)
	p.OnClose(func() error { p.GRPC.Close(); return nil })
	p.ready.grpc = p.GRPC
	p.Go("keyspace", p.watchKeyspace)
	p.Go("store", p.checkStore)
	return p, nil
}

// Start opens a pod of kind k and lets open add the parts of its kind. What has been opened is closed again if that fails.
func Start[N any](ctx context.Context, k Kind, c Config, d Deps, open func(context.Context, *Pod) (N, error)) (none N, err error) {
	p, err := Open(ctx, k, c, d)
	if err != nil {
		return none, err
	}
	n, err := open(ctx, p)
	if err != nil {
		return none, errors.Join(err, p.Close())
	}
	return n, nil
}

func (p *Pod) openStore(ctx context.Context) (err error) {
	c := p.Config
	if p.Engine == nil {
		if err := c.FDBTLS.check(); err != nil {
			return err
		}
		if p.Engine, err = OpenEngine(c, p.Log, p.Fail); err != nil {
			return fmt.Errorf("--store=%s: %w", c.Store, err)
		}
		p.OnClose(p.Engine.Close)
	}
	if p.Bus == nil && c.NATSURL != "" {
		if p.Bus, err = nats.Connect(c.NATSURL, nats.Options{Name: "headwater-" + string(p.Kind) + " " + c.Name, Logger: p.Log}); err != nil {
			return fmt.Errorf("--nats-url: %w", err)
		}
		p.OnClose(p.Bus.Close)
	}
	options := mvcc.Options{Lanes: c.Lanes, NoRemoval: true, OnDamage: p.damage.Report, Activate: c.ActivateFeatures, Logger: p.Log}
	if p.Bus != nil {
		// No group commits before the name is known: the queue is empty until services are registered.
		options.Committed = func() { p.Bus.Nudge(p.Subject) }
	}
	if err := p.Reach(ctx, func(ctx context.Context) error { return p.openKeyspace(ctx, options) }); err != nil {
		return fmt.Errorf("keyspace %s: %w", c.Keyspace, err)
	}
	p.OnClose(p.Store.Close)
	wiring.LogFeatures(p.Log, p.Store.Features(), mvcc.FeatureValues)
	cluster := p.Store.Meta().ClusterID
	p.Subject = feed.Name(c.Keyspace, cluster)
	// One member for the whole deployment, whatever the pods are called.
	p.Header = wiring.Header(cluster, c.Keyspace)
	return nil
}

func (p *Pod) openKeyspace(ctx context.Context, o mvcc.Options) (err error) {
	if p.Keyspace, err = keyspace.Open(ctx, p.Engine, []byte(p.Config.FDBRoot), p.Config.Keyspace); err != nil {
		return err
	}
	o.Prefix = p.Keyspace.Prefix
	p.Store, err = mvcc.Open(ctx, p.Engine, o)
	return err
}

// services are what each kind owns.
var services = map[Kind][]*grpc.ServiceDesc{
	KV: {
		&pb.KV_ServiceDesc, &pb.Cluster_ServiceDesc, &pb.Maintenance_ServiceDesc, &pb.Auth_ServiceDesc,
		etcdapi.LockService(), etcdapi.ElectionService(),
	},
	WatchHub:    {&pb.Watch_ServiceDesc},
	LeaseKeeper: {&pb.Lease_ServiceDesc},
}

func (p *Pod) openPools() error {
	for k := range services {
		if k == p.Kind {
			continue
		}
		pool, err := relay.NewPool(relay.Options{Name: string(k), Endpoints: p.Config.Endpoints(k), Keepalive: p.Config.KeepaliveMinTime})
		if err != nil {
			return err
		}
		p.pools[k] = pool
		p.OnClose(pool.Close)
	}
	return nil
}

// Relay registers the services that another kind owns on r.
func (p *Pod) Relay(r grpc.ServiceRegistrar, k Kind) {
	for _, desc := range services[k] {
		p.pools[k].Register(r, desc)
	}
}

// Address is the host:port at which other pods reach this one.
func (p *Pod) Address() (string, error) { return p.Config.address(p.server.AdvertisedURLs()) }

// AdvertisedURLs are the client URLs that MemberList shows.
func (p *Pod) AdvertisedURLs() []string { return p.server.AdvertisedURLs() }

// URL is a client URL of this pod, as listened on.
func (p *Pod) URL() string { return p.server.URL() }

// Background is the context of Go's functions; it ends when the pod closes.
func (p *Pod) Background() context.Context { return p.background }

// Go runs f in the background until the pod closes; an error of f's before that ends the pod.
func (p *Pod) Go(what string, f func(context.Context) error) {
	p.wg.Go(func() {
		if err := f(p.background); err != nil && p.background.Err() == nil {
			p.Fail(fmt.Errorf("%s: %w", what, err))
		}
	})
}

// Fail says that the pod can no longer serve: it is not ready any more, and whoever runs it should close it. The first reason counts.
func (p *Pod) Fail(err error) {
	p.Log.Error("the pod can no longer serve", "error", err)
	p.SetReady(false, err.Error())
	select {
	case p.failed <- err:
	default:
	}
}

// Failed gets the reason why the pod can no longer serve.
func (p *Pod) Failed() <-chan error { return p.failed }

// watchKeyspace ends the pod when the keyspace is deleted.
func (p *Pod) watchKeyspace(ctx context.Context) error {
	for {
		err := keyspace.WaitDeleted(ctx, p.Engine, []byte(p.Config.FDBRoot), p.Keyspace)
		if err == nil {
			return errors.New("the keyspace has been deleted")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(deletedPause):
		}
	}
}

// OnClose adds a function to be called by Close, before those added earlier.
func (p *Pod) OnClose(f func() error) { p.onClose = append(p.onClose, f) }

// Close stops serving, at once if Drain has not been called, and closes everything. It may be called more than once.
func (p *Pod) Close() error { return p.closeOnce() }

func (p *Pod) close() error {
	err := p.run.end()
	p.stop()
	p.wg.Wait()
	errs := []error{err}
	for i := len(p.onClose) - 1; i >= 0; i-- {
		errs = append(errs, p.onClose[i]())
	}
	return errors.Join(errs...)
}
