package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/join"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/pulse"
	"github.com/headwaterdb/headwater/libs/relay"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/tracing"
)

// Parts are what a server is made of in addition to its configuration. The server does not close what is given to it
// open. It opens and closes what is given as a function, as the configuration says. So each main names what its binary
// links.
type Parts struct {
	Engine     engine.Store
	OpenEngine func(config.Config, EngineOptions) (engine.Store, error) // not called if Engine is given
	Bus        bus.Bus
	OpenBus    func(config.Config, BusOptions) (bus.Bus, error) // not called if Bus is given, or --nats-url is not
	// OpenHistory opens the cache of a watchhub pod; nil: the pod has none.
	OpenHistory func(dir string, identity []byte, codec revlog.Codec, log *slog.Logger) (History, error)
	Log         *slog.Logger // nil: discarded
	// Now reads the clock by which leases end and elected places are kept, and must be monotonic; nil: time.Now.
	Now func() time.Time
}

// BusOptions are the options of a bus in addition to the configuration.
type BusOptions struct {
	Name string // the name of the process in NATS
	Log  *slog.Logger
	TLS  *tlsconf.TLS // nil: the server decides about TLS
}

// EngineOptions are the options of an engine in addition to the configuration.
type EngineOptions struct {
	Log *slog.Logger
	// OnFailure is called when the engine has failed for good, and OnDamage when it meets data that cannot be read.
	// Both may be called from any goroutine and must return at once.
	OnFailure, OnDamage func(error)
}

// Deployment is a process's share of a deployment: everything that exists once, however many keyspaces are served. It
// has the sockets, the engine, the bus, the gRPC server, connections to pods of other kinds, the elections in which the
// pod stands, readiness, background work, and the order in which all of that ends. Keyspace has what exists once per
// keyspace.
type Deployment struct {
	Kind   config.Kind
	Config config.Config
	Log    *slog.Logger
	Engine engine.Store
	Bus    bus.Bus // nil: there is none
	GRPC   *server.GRPC

	now func() time.Time // of leases and elections; nil: time.Now
	// pulse is the beat of the elections that this pod takes part in, with which everything is done that is done about
	// every second.
	pulse pulse.Pulse

	// joint commits what the keyspaces of a standalone server with --join-commits have little of each, so that all of
	// it is one transaction; nil: they commit apart.
	joint *mvcc.Joint

	// joined is the engine as the stores of a pod's keyspaces have it with --join-commits, so that what several commit
	// at about the same time is one transaction; else nil.
	joined *join.Store

	// openHistory is Parts.OpenHistory.
	openHistory func(dir string, identity []byte, codec revlog.Codec, log *slog.Logger) (History, error)

	tls    security
	server *server.Server
	pools  map[config.Kind]*relay.Pool // of the kinds that own what this one relays
	ready  readiness
	store  atomic.Pointer[mvcc.Store] // of the first keyspace; nil before it is open
	all    *keyspaces
	run    running

	passwords *auth.Passwords // each keyspace has a share of them
	jwt       *auth.JWT       // nil: tokens are signed ones

	gates   *gates
	answers *etcdapi.Answers // the room for all answers under way; each keyspace has a share
	// watchSends are the metrics of all keyspaces; nil if there are no watches.
	watchSends *server.WatchSends
	tracer     *tracing.Tracer // nil: no tracing

	making      *fair.Gate   // of snapshots
	clearedRows atomic.Int64 // rows of deleted keyspaces that this process has removed

	life
	failed    chan error // capacity 1: why the process can no longer serve
	closeOnce func() error
}

// newDeployment returns a Deployment that has not opened anything.
func newDeployment(k config.Kind, c config.Config, p Parts) *Deployment {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	d := &Deployment{
		Kind: k, Config: c, Log: p.Log, Engine: p.Engine, Bus: p.Bus, openHistory: p.OpenHistory, now: p.Now,
		pools: make(map[config.Kind]*relay.Pool), failed: make(chan error, 1),
		answers: etcdapi.NewAnswers(c.MaxAnswerBytes), passwords: auth.NewPasswords(c.BcryptCost),
		making: fair.NewGate(snapshotsMaking, 1),
	}
	if k == config.Standalone || k == config.WatchHub {
		d.watchSends = server.NewWatchSends()
	}
	patience := writesGrace
	d.gates = newGates()
	if k.IsPod() {
		patience, d.gates = 0, newPodGates()
	}
	d.ready.changed = make(bell, 1)
	d.begin(patience, d.Fail)
	d.closeOnce = sync.OnceValue(d.close)
	return d
}

// open opens everything that does not depend on a keyspace. onDamage is for the engine. The caller must Close d, also
// if open fails.
func (d *Deployment) open(ctx context.Context, p Parts, onDamage func(error)) (err error) {
	if d.jwt, err = auth.ParseTokens(d.Config.AuthToken); err != nil {
		return fmt.Errorf("--auth-token: %w", err)
	}
	if err := d.openTLS(); err != nil {
		return err
	}
	if d.server, err = server.Listen(ctx, d.sockets()); err != nil {
		return err
	}
	d.OnClose(func() error { d.server.Close(); return nil })
	if err := d.openEngine(p, onDamage); err != nil {
		return err
	}
	if d.Config.JoinCommits {
		d.joinCommits()
	}
	if err := d.openBus(p); err != nil {
		return err
	}
	if err := d.openPools(); err != nil {
		return err
	}
	if err := d.openTracer(ctx); err != nil {
		return err
	}
	d.GRPC = newGRPC(d.Config, d.Config.EnableGRPCGateway || d.hasStatus(), d.tracer, d.Log)
	d.OnClose(func() error { d.GRPC.Close(); return nil })
	d.ready.grpc = d.GRPC
	return nil
}

// joinCommits has small groups of several keyspaces committed together.
func (d *Deployment) joinCommits() {
	if d.Kind.IsPod() {
		d.joined = join.New(d.Engine)
		d.OnClose(d.joined.Close)
	} else if d.joint = mvcc.NewJoint(d.Engine, d.gates.groups.Flow(1)); d.joint != nil {
		d.OnClose(d.joint.Close)
	}
}

func (d *Deployment) openEngine(p Parts, onDamage func(error)) (err error) {
	if d.Engine != nil {
		return nil
	}
	d.Engine, err = p.OpenEngine(d.Config, EngineOptions{Log: d.Log, OnFailure: d.Fail, OnDamage: onDamage})
	if err != nil {
		return err
	}
	d.OnClose(d.Engine.Close)
	return nil
}

// stores is the engine that stores of keyspaces are opened on.
func (d *Deployment) stores() engine.Store {
	if d.joined != nil {
		return d.joined
	}
	return d.Engine
}

func (d *Deployment) openTracer(ctx context.Context) (err error) {
	if !d.Config.Tracing.Enabled {
		return nil
	}
	if d.tracer, err = tracing.New(ctx, d.Config.Tracing, d.Log); err != nil {
		return err
	}
	d.OnClose(d.tracer.Close)
	return nil
}

func (d *Deployment) openBus(p Parts) (err error) {
	if d.Bus != nil || d.Config.NATSURL == "" {
		return nil
	}
	if d.Bus, err = p.OpenBus(
		d.Config,
		BusOptions{d.Kind.Program() + " " + d.Config.Name, d.Log, d.tls.nats},
	); err != nil {
		return fmt.Errorf("--nats-url: %w", err)
	}
	d.OnClose(d.Bus.Close)
	return nil
}

func (d *Deployment) openPools() error {
	if !d.Kind.IsPod() {
		return nil
	}
	for k := range owned {
		if k == d.Kind {
			continue
		}
		o, err := d.poolOptions(k, d.Config.Endpoints(k))
		if err != nil {
			return err
		}
		o.Told = d.told
		pool, err := relay.NewPool(o)
		if err != nil {
			return err
		}
		d.pools[k] = pool
		d.OnClose(pool.Close)
	}
	return nil
}

// told returns the function that tells the store of a call's keyspace which revisions clients have learned from pods of
// other kinds through this one.
func (d *Deployment) told(ctx context.Context) func(rev int64) {
	if name, err := d.all.chooser.name(ctx); err == nil && name != "" && name != d.all.firstName() {
		return func(rev int64) { d.all.told(name, rev) }
	}
	return d.toldFirst
}

func (d *Deployment) toldFirst(rev int64) {
	if s := d.store.Load(); s != nil {
		s.Told(rev)
	}
}

// relays says whether pods of another kind own a service.
func (d *Deployment) relays(service string) bool {
	for k := range d.pools {
		for _, desc := range owned[k] {
			if desc.ServiceName == service {
				return true
			}
		}
	}
	return false
}

// relay registers the services that pods of other kinds own.
func (d *Deployment) relay(r grpc.ServiceRegistrar) {
	for k, pool := range d.pools {
		for _, desc := range owned[k] {
			pool.Register(r, desc)
		}
	}
}

// Address returns where other pods reach this one, host:port or https://host:port.
func (d *Deployment) Address() (string, error) {
	return d.Config.Address(d.server.PeerURLs(), d.server.AdvertisedURLs())
}

// AdvertisedURLs returns the client URLs that MemberList shows.
func (d *Deployment) AdvertisedURLs() []string { return d.server.AdvertisedURLs() }

// URL returns a client URL of this process, with the port that was bound.
func (d *Deployment) URL() string { return d.server.URL() }

// Fail says that the process can no longer serve. It is not ready any more, and its owner should close it. The first
// reason counts.
func (d *Deployment) Fail(err error) {
	d.Log.Error("the process can no longer serve", "error", err)
	d.ready.fail(err)
	select {
	case d.failed <- err:
	default:
	}
}

// Failed returns a channel that gets the reason why the process can no longer serve.
func (d *Deployment) Failed() <-chan error { return d.failed }

// Close stops serving, at once if Drain has not been called, and closes everything. It may be called several times.
func (d *Deployment) Close() error { return d.closeOnce() }

func (d *Deployment) close() error {
	err := d.run.end()
	return errors.Join(err, d.endOnce())
}
