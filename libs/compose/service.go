package compose

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/watch"
)

// services lists the parts of each kind, in the order in which they are opened. Standalone is a kv, a hub and a keeper
// in one process: it has a part for everything, and does alone what pods share by elections and the bus.
var services = map[config.Kind][]func(*Keyspace) part{
	config.Standalone:  {kvPart, compactorPart, quotaPart, hubPart, leasesPart},
	config.KV:          {kvPart, electedCompactorPart, quotaPart}, // compactions.go does this for other keyspaces
	config.WatchHub:    {followingHubPart},
	config.LeaseKeeper: {quotaPart, shardedLeasesPart},
}

// owned are the gRPC services of each kind of pod. The other kinds relay them to it.
var owned = map[config.Kind][]*grpc.ServiceDesc{
	config.KV: {
		&pb.KV_ServiceDesc, &pb.Cluster_ServiceDesc, &pb.Maintenance_ServiceDesc, &pb.Auth_ServiceDesc,
		etcdapi.LockService(), etcdapi.ElectionService(),
	},
	config.WatchHub:    {&pb.Watch_ServiceDesc},
	config.LeaseKeeper: {&pb.Lease_ServiceDesc},
}

// part is a part of a service for one keyspace. Start calls its functions in this order. A part leaves functions nil
// that it does not need.
type part struct {
	// want changes how the store is opened.
	want func(*mvcc.Options)
	// open makes the part, and starts what it does without clients. The store, the alarms and the earlier parts are
	// open.
	open func(context.Context) error
	// register registers the services that Lock and Election need too, and registerMore all others.
	register     func(grpc.ServiceRegistrar)
	registerMore func(grpc.ServiceRegistrar) error
	// begin starts what needs clients and other pods to be served. It returns when the part can answer.
	begin func(context.Context) error
	// leave is called when the process begins to drain. It hands over what others can take, until its context ends.
	leave func(context.Context)
	// drain ends the part's own streams, so that clients resume elsewhere.
	drain func()
	// busy says whether the part does something without clients. An idle keyspace stays open while it does.
	busy func() bool
	// leases returns how many leases the keyspace has, if the process keeps all of them.
	leases func() int
	// watch returns the numbers of a watch hub, and collectors returns other metrics.
	watch      func() watch.Stats
	collectors func() []prometheus.Collector
}

// Server is a service that serves: a share of a deployment, its first keyspace, and the others. Close must be called.
type Server struct {
	*Deployment
	*Keyspace
	keyspaces *keyspaces
}

// Start opens a service of kind k and serves. It returns when the service is ready.
func Start(ctx context.Context, k config.Kind, c config.Config, p Parts) (*Server, error) {
	s, err := open(ctx, k, c, p, services[k])
	if err != nil {
		return nil, err
	}
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open does Start's work for a service with given parts, up to the point where it serves.
func open(ctx context.Context, k config.Kind, c config.Config, p Parts, parts []func(*Keyspace) part) (*Server, error) {
	if err := c.Validate(k); err != nil {
		return nil, config.UsageError(err.Error())
	}
	d := newDeployment(k, c, p)
	all := newKeyspaces(d, parts)
	err := d.open(ctx, p, all.first.damage.Report)
	d.OnClose(all.first.endOnce)
	if err == nil {
		err = all.first.open(ctx)
	}
	if err == nil {
		err = all.openTable()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &Server{d, all.first, all}, nil
}

// begin serves the keyspaces. If it fails, the caller closes s. Parts of pods ask other pods, which ask this one. So a
// pod serves at once, and is ready later. A process that is alone serves when it can answer everything, because unit
// files and tests wait for etcd's log line about it.
func (s *Server) begin(ctx context.Context) error {
	if err := s.keyspaces.first.register(); err != nil {
		return err
	}
	s.keyspaces.dispatch(s.GRPC)
	s.keyspaces.shown = s.keyspaces.show()
	if s.Kind.IsPod() {
		if err := s.serve(s.keyspaces); err != nil {
			return err
		}
	}
	if err := s.beginWork(ctx); err != nil {
		return err
	}
	s.SetReady(true, "")
	if !s.Kind.IsPod() {
		return s.serve(s.keyspaces)
	}
	return nil
}

// beginWork starts what goes on without calls, the admin API, and the status page.
func (s *Server) beginWork(ctx context.Context) error {
	if err := s.keyspaces.first.beginParts(ctx); err != nil {
		return err
	}
	if s.keyspaces.table != nil {
		s.Deployment.Go("keyspaces", s.keyspaces.follow)
	}
	if err := s.keyspaces.serveForOperators(ctx); err != nil {
		return err
	}
	if s.Kind.IsPod() {
		s.Deployment.Go("roster", s.keyspaces.announce)
	}
	return nil
}

// writesGrace is how long the end of a process with its own store waits for writes that the disk does not take. With
// the engine's own limits it is less than three seconds.
const writesGrace = 500 * time.Millisecond

// OpenKeyspaces returns how many keyspaces are open, or being opened or closed, without the first.
func (s *Server) OpenKeyspaces() int {
	s.keyspaces.mu.Lock()
	defer s.keyspaces.mu.Unlock()
	return len(s.keyspaces.open)
}
