package sidebyside

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/pods"
	"github.com/headwaterdb/headwater/tests/internal/ranks"
)

const (
	podsPerKind = 2
	startsMax   = 4               // deployments at a time
	podsTimeout = 2 * time.Minute // bounds the start of all pods
	probePause  = 10 * time.Millisecond
	// podsTarget is the address that clients dial. Its resolver knows the pods.
	podsTarget = "pods:///headwater"
	// everyPod sends each request and each stream to the next pod, so all pods must know what one has answered.
	everyPod = `{"loadBalancingConfig":[{"round_robin":{}}]}`
)

// Distributed is what NewPods needs.
type Distributed struct {
	// Engine is the empty engine of the pods, which nobody else uses. It is closed with the Target.
	Engine engine.Store
	// Faults are the faults of the engine. There must be none that a client would notice.
	Faults faults.Options
	// Patience is how long an answer may wait until its revisions are known; 0: ranks.Patience.
	Patience time.Duration
	Log      *slog.Logger // nil: discarded
}

// NewPods starts the distributed form: pods of all kinds in this process on one engine, behind a translation of
// revisions to ranks. If the pods are not closed before, they are closed at the end of the test.
func NewPods(tb testing.TB, o Distributed) (*Target, error) {
	tb.Helper()
	s, err := newPodsServer(tb, o)
	if err != nil {
		return nil, err
	}
	return s.target(nil, nil)
}

func newPodsServer(tb testing.TB, o Distributed) (*podsServer, error) {
	tb.Helper()
	if o.Patience == 0 {
		o.Patience = ranks.Patience
	}
	s := &podsServer{o: o, bus: bus.NewLocal()}
	s.deployment = pods.New(tb, compose.Parts{Bus: s.bus, Log: o.Log}, podsPerKind)
	err := s.start()
	if err == nil {
		err = s.follow()
	}
	if err != nil {
		s.Remove()
		return nil, err
	}
	return s, nil
}

// target connects to the pods. The interceptors in inside see ranks, those in outside see revisions.
func (s *podsServer) target(inside, outside []grpc.DialOption) (*Target, error) {
	dial := slices.Concat(inside, ranks.Translator{Book: s.follower.Book}.DialOptions(), outside, s.dialOptions())
	t, err := newTarget("headwater", s, func() error { return errors.Join(s.kill(), s.start()) }, dial)
	if t != nil {
		t.ranked = true
	}
	return t, err
}

// podsServer is a deployment as a server.
type podsServer struct {
	o          Distributed
	bus        *bus.Local
	deployment *pods.Deployment
	view       *faults.Store // the running pods' view of the engine

	conn     *grpc.ClientConn // the follower's
	follower *ranks.Follower
}

func (s *podsServer) Addr() string { return podsTarget }

// dialOptions lead to the pods of all kinds, because any pod serves the whole API.
func (s *podsServer) dialOptions() []grpc.DialOption {
	var all resolver.State
	for _, k := range pods.Kinds {
		for _, e := range s.deployment.Endpoints(k) {
			all.Endpoints = append(all.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: e}}})
		}
	}
	r := manual.NewBuilderWithScheme("pods")
	r.InitialState(all)
	quick := grpc.ConnectParams{
		Backoff: backoff.Config{
			BaseDelay:  10 * time.Millisecond,
			Multiplier: 1.6,
			MaxDelay:   200 * time.Millisecond,
		},
		MinConnectTimeout: callTimeout,
	}
	return []grpc.DialOption{
		grpc.WithResolvers(r), grpc.WithDefaultServiceConfig(everyPod), grpc.WithConnectParams(quick),
	}
}

// starting holds a place for each deployment that may start at a time. A start takes most of a processor, and on a busy
// machine pods that start beside too many others never keep a shard or an election for long.
var starting = make(chan struct{}, startsMax)

// start starts all pods, with a view of the engine of their own.
func (s *podsServer) start() error {
	starting <- struct{}{}
	defer func() { <-starting }()
	ctx, cancel := context.WithTimeout(context.Background(), podsTimeout)
	defer cancel()
	o := s.o.Faults
	o.Recent = true // groups begin on states that may be outdated
	s.view = faults.New(testengine.KeepOpen(s.o.Engine), o)
	s.deployment.Parts.Engine = s.view
	if err := s.deployment.StartAll(ctx); err != nil {
		return fmt.Errorf("start pods: %w", err)
	}
	return s.awaitRelays(ctx)
}

// awaitRelays waits until every pod has found the pods to which it relays. While a pod tries to reach one that was not
// up at first, it answers Unavailable.
func (s *podsServer) awaitRelays(ctx context.Context) error {
	for _, k := range pods.Kinds {
		for i := range podsPerKind {
			conn, err := dialServer(s.deployment.Addr(k, i))
			if err != nil {
				return err
			}
			err = poll(ctx, func() (bool, error) {
				err := probe(ctx, conn)
				if status.Code(err) == codes.Unavailable {
					return false, nil
				}
				return true, err
			})
			conn.Close()
			if err != nil {
				return fmt.Errorf("%s pod %d does not serve the whole API: %w", k, i, err)
			}
		}
	}
	return nil
}

// probe makes requests of each kind through conn. It looks for leases with every owner, because after a kill the dead
// pods' shards wait for new owners.
func probe(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}}); err != nil {
		return err
	}
	if _, err := grantsRefused(ctx, conn); err != nil {
		return err
	}
	watch, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		return err
	}
	create := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte{0}}}
	if err := watch.Send(&pb.WatchRequest{RequestUnion: create}); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	_, err = watch.Recv()
	return err
}

// kill takes the store away from all pods at the same moment, as the end of their processes would. So they hand over
// nothing and write nothing more. Then it closes them.
func (s *podsServer) kill() error {
	s.view.Restart(lost{s.view.Crash()})
	return s.deployment.Close()
}

func (s *podsServer) follow() (err error) {
	if s.conn, err = dialServer(s.Addr(), s.dialOptions()...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	s.follower, err = ranks.Follow(ctx, s.conn, s.o.Patience)
	return err
}

func (s *podsServer) Remove() {
	if s.follower != nil {
		s.follower.Close()
	}
	if s.conn != nil {
		s.conn.Close()
	}
	// The errors of closing without a store say just that.
	_ = errors.Join(s.kill(), s.bus.Close(), s.o.Engine.Close())
	// The test's cleanup still refers to the deployment.
	s.deployment.Parts, s.view, s.o.Engine = compose.Parts{}, nil, nil
}

// lost is an engine that has been closed, so that pods do not try again.
type lost struct{ engine.Store }

// Snapshot implements engine.Store.
func (lost) Snapshot(context.Context) (engine.Snapshot, error) { return nil, engine.ErrClosed }

// Begin implements engine.Store.
func (lost) Begin(context.Context) (engine.Txn, error) { return nil, engine.ErrClosed }

// WaitChange implements engine.Store.
func (lost) WaitChange(context.Context, []byte, []byte) error { return engine.ErrClosed }
