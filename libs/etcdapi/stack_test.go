package etcdapi_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/headwaterdb/headwater/libs/alarm"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/loopback"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
)

// stack is all that the data services stand on, in memory, with a clientv3 client and a bare connection.
type stack struct {
	client *clientv3.Client
	conn   *grpc.ClientConn
	keeper *lease.Keeper
	local  *loopback.Client
	stop   func() // ends it; the file system keeps the data
}

func startStack(t *testing.T, fs vfs.FS) *stack {
	t.Helper()
	return startStackOn(t, fs, func(e engine.Store) engine.Store { return e })
}

// startStackOn starts a stack with an engine in front of the one on fs.
func startStackOn(t *testing.T, fs vfs.FS, wrap func(engine.Store) engine.Store) *stack {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	inner, err := pebble.Open("data", pebble.Options{
		FS: fs, ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	must(err)
	engine := wrap(inner)
	damage := alarm.NewDamage(slog.New(slog.DiscardHandler))
	hub := watch.New(watch.Options{})
	store, err := mvcc.Open(t.Context(), engine, mvcc.Options{Feed: hub.Apply, OnDamage: damage.Report})
	must(err)
	head, err := store.Head(t.Context())
	must(err)
	hub.Start(store, head)
	keeper, err := lease.New(store, lease.Options{MinTTL: 1})
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	kept := make(chan error, 1)
	go func() { kept <- keeper.Run(ctx) }()

	header := etcdapi.Header{ClusterID: 1, MemberID: 2, RaftTerm: 2}
	alarms, err := alarm.Open(ctx, store)
	must(err)
	var raising sync.WaitGroup
	raising.Go(func() { damage.Run(ctx, alarms, header.MemberID) })
	register := func(r grpc.ServiceRegistrar) {
		etcdapi.RegisterKV(r, store, header, etcdapi.KVOptions{})
		etcdapi.RegisterWatch(r, hub, header, etcdapi.WatchOptions{})
		etcdapi.RegisterLease(r, keeper, header, store)
	}
	local, err := loopback.New(register)
	must(err)
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	register(server)
	etcdapi.RegisterMaintenance(server, header, store, alarms, 0, nil)
	etcdapi.RegisterLock(server, local.Client())
	etcdapi.RegisterElection(server, local.Client())
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"memory"}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return listener.DialContext(ctx)
			}),
		},
	})
	must(err)
	s := &stack{client: client, conn: client.ActiveConnection(), keeper: keeper, local: local}
	s.stop = sync.OnceFunc(func() {
		check := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		check(client.Close())
		check(local.Close())
		server.Stop()
		<-served
		cancel()
		check(<-kept)
		raising.Wait()
		hub.Close()
		check(store.Close())
		check(engine.Close())
	})
	t.Cleanup(s.stop)
	return s
}

// leakCheck fails the test if goroutines are left that were not there before. It must be called first.
func leakCheck(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { leaktest.None(t, before) })
}

func mustGrant(t *testing.T, c *clientv3.Client, ttl int64) clientv3.LeaseID {
	t.Helper()
	r, err := c.Grant(t.Context(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// expiring puts keys with a lease that is about to expire. They are there before it has: a machine that is too slow for
// that tries again.
func expiring(t *testing.T, c *clientv3.Client, keys ...string) clientv3.LeaseID {
	t.Helper()
	for ttl := int64(1); ; ttl *= 2 {
		lease := mustGrant(t, c, ttl)
		var puts []clientv3.Op
		for _, k := range keys {
			puts = append(puts, clientv3.OpPut(k, "", clientv3.WithLease(lease)))
		}
		switch _, err := c.Txn(t.Context()).Then(puts...).Commit(); {
		case err == nil:
			return lease
		case !errors.Is(err, rpctypes.ErrLeaseNotFound):
			t.Fatal(err)
		}
	}
}

// TestLeaseOnStore: leases with a real store under them, through clientv3: attachment, revoke, expiry with its watch
// event, restart.
func TestLeaseOnStore(t *testing.T) {
	leakCheck(t)
	fs := vfs.NewMem()
	s := startStack(t, fs)
	c, ctx := s.client, t.Context()

	if _, err := c.Put(ctx, "k", "v", clientv3.WithLease(99)); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatalf("put with an unknown lease: %v", err)
	}
	if _, err := c.Revoke(ctx, 99); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatalf("revoke of an unknown lease: %v", err)
	}
	if _, err := c.Grant(ctx, lease.MaxTTL+1); !errors.Is(err, rpctypes.ErrLeaseTTLTooLarge) {
		t.Fatalf("too large: %v", err)
	}

	id := mustGrant(t, c, 100)
	for _, k := range []string{"b", "a", "c"} {
		if _, err := c.Put(ctx, k, "v", clientv3.WithLease(id)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Put(ctx, "c", "detached"); err != nil {
		t.Fatal(err)
	}
	ttl, err := c.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([][]byte{[]byte("a"), []byte("b")}, ttl.Keys); d != "" || ttl.GrantedTTL != 100 ||
		ttl.Revision != 5 {
		t.Errorf("%+v %s", ttl, d)
	}
	revoked, err := c.Revoke(ctx, id)
	if err != nil || revoked.Header.Revision != 6 {
		t.Fatalf("revoke: %v %v", revoked, err)
	}
	if r, err := c.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || r.Count != 1 {
		t.Fatalf("after the revoke: %v %v", r, err)
	}
	if ka, err := c.KeepAliveOnce(ctx, id); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Fatalf("keep-alive of a revoked lease: %v %v", ka, err)
	}

	long := mustGrant(t, c, 1000)
	watching := c.Watch(ctx, "x", clientv3.WithPrefix())
	short := expiring(t, c, "x1", "x2")
	for n := 0; n < 2; {
		r := <-watching
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		if last := r.Events[len(r.Events)-1]; last.Type == clientv3.EventTypeDelete {
			if n = len(r.Events); n != 2 || r.Events[0].Kv.ModRevision != last.Kv.ModRevision {
				t.Fatalf("expiry: %v", r.Events)
			}
		}
	}
	if ttl, err := c.TimeToLive(ctx, short); err != nil || ttl.TTL != -1 {
		t.Fatalf("after the expiry: %v %v", ttl, err)
	}
	if got := s.keeper.Stats(); got.Granted != 3 || got.Revoked != 2 || got.Expired != 1 || got.Active != 1 {
		t.Errorf("stats %+v", got)
	}

	s.stop()
	s = startStack(t, fs)
	leases, err := s.client.Leases(ctx)
	if err != nil || len(leases.Leases) != 1 || leases.Leases[0].ID != long {
		t.Fatalf("after the restart: %v %v", leases, err)
	}
	if ka, err := s.client.KeepAliveOnce(ctx, long); err != nil || ka.TTL != 1000 {
		t.Fatalf("after the restart: %v %v", ka, err)
	}
}

// TestLockService: of many who lock the same name, one at a time has it.
func TestLockService(t *testing.T) {
	leakCheck(t)
	s := startStack(t, vfs.NewMem())
	ctx := t.Context()
	const clients = 8
	var (
		all     sync.WaitGroup
		mu      sync.Mutex
		holders int
	)
	for range clients {
		id := mustGrant(t, s.client, 100)
		all.Go(func() {
			lock := new(cpb.LockResponse)
			if err := s.conn.Invoke(ctx, "/v3lockpb.Lock/Lock", &cpb.LockRequest{Name: []byte("l"), Lease: int64(id)},
				lock); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			holders++
			if holders != 1 {
				t.Errorf("%d hold the lock", holders)
			}
			mu.Unlock()
			if r, err := s.client.Get(ctx, string(lock.Key)); err != nil || r.Count != 1 ||
				r.Kvs[0].Lease != int64(id) {
				t.Errorf("key of the lock: %v %v", r, err)
			}
			mu.Lock()
			holders--
			mu.Unlock()
			if err := s.conn.Invoke(ctx, "/v3lockpb.Lock/Unlock", &cpb.UnlockRequest{Key: lock.Key},
				new(cpb.UnlockResponse)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestElectionService: a leader is elected, watched, and succeeded by the next when its lease is revoked.
func TestElectionService(t *testing.T) {
	leakCheck(t)
	s := startStack(t, vfs.NewMem())
	ctx := t.Context()
	name := []byte("e")
	campaign := func(id clientv3.LeaseID, value string) (*cpb.CampaignResponse, error) {
		r := new(cpb.CampaignResponse)
		return r, s.conn.Invoke(ctx, "/v3electionpb.Election/Campaign",
			&cpb.CampaignRequest{Name: name, Lease: int64(id), Value: []byte(value)}, r)
	}
	one, two := mustGrant(t, s.client, 100), mustGrant(t, s.client, 100)
	first, err := campaign(one, "one")
	if err != nil {
		t.Fatal(err)
	}
	observed, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/v3electionpb.Election/Observe")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(observed.SendMsg(&cpb.LeaderRequest{Name: name}), observed.CloseSend()); err != nil {
		t.Fatal(err)
	}
	observe := func(want string) {
		t.Helper()
		r := new(cpb.LeaderResponse)
		if err := observed.RecvMsg(r); err != nil || string(r.Kv.GetValue()) != want {
			t.Fatalf("observed %v, %v; want %s", r, err, want)
		}
	}
	observe("one")
	err = s.conn.Invoke(ctx, "/v3electionpb.Election/Proclaim",
		&cpb.ProclaimRequest{Leader: first.Leader, Value: []byte("uno")}, new(cpb.ProclaimResponse))
	if err != nil {
		t.Fatal(err)
	}
	observe("uno")
	elected := make(chan error)
	go func() {
		_, err := campaign(two, "two")
		elected <- err
	}()
	if _, err := s.client.Revoke(ctx, one); err != nil {
		t.Fatal(err)
	}
	if err := <-elected; err != nil {
		t.Fatal(err)
	}
	observe("two")
	err = s.conn.Invoke(ctx, "/v3electionpb.Election/Resign", &cpb.ResignRequest{}, new(cpb.ResignResponse))
	if status.Convert(err).Message() != `"leader" field must be provided` {
		t.Errorf("resign without a leader: %v", err)
	}
}

// TestLoopbackClose: who waits for a lock is let go when the local client is closed, with an error.
func TestLoopbackClose(t *testing.T) {
	leakCheck(t)
	s := startStack(t, vfs.NewMem())
	ctx := t.Context()
	one, two := mustGrant(t, s.client, 100), mustGrant(t, s.client, 100)
	lock := func(id clientv3.LeaseID) error {
		return s.conn.Invoke(ctx, "/v3lockpb.Lock/Lock", &cpb.LockRequest{Name: []byte("l"), Lease: int64(id)},
			new(cpb.LockResponse))
	}
	if err := lock(one); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error)
	go func() { waited <- lock(two) }()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		r, err := s.client.Get(ctx, "l/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		if r.Count == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody waits for the lock")
		}
	}
	if err := s.local.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err == nil {
		t.Error("locked")
	}
	if err := lock(one); err == nil {
		t.Error("locked after the end")
	}
}

// TestRecipes: clientv3's own sessions, mutexes and elections, as programs use them.
func TestRecipes(t *testing.T) {
	leakCheck(t)
	s := startStack(t, vfs.NewMem())
	ctx := t.Context()
	session := func() *concurrency.Session {
		t.Helper()
		s, err := concurrency.NewSession(s.client, concurrency.WithTTL(60))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := session(), session()
	m1, m2 := concurrency.NewMutex(a, "m"), concurrency.NewMutex(b, "m")
	if err := m1.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m2.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		t.Fatalf("TryLock: %v", err)
	}
	locked := make(chan error)
	go func() { locked <- m2.Lock(ctx) }()
	if err := a.Close(); err != nil { // the lock goes with the session's lease
		t.Fatal(err)
	}
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	<-a.Done()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
