package etcdapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/loopback"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/wire"
	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
)

// trip is how long a round trip takes on the clock of a bubble.
const trip = time.Millisecond

// farStack is the services over an engine over a network, in a bubble. Its hub is not fed: it is for what does not
// wait for events.
type farStack struct {
	*testing.T
	e      *faults.Store
	store  *mvcc.Store
	client *clientv3.Client
	conn   *grpc.ClientConn
}

func startFar(t *testing.T) *farStack {
	inner, err := pebble.Open("data", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
		FDBLimits: true, Sparse: true, NotPipelined: true, Seed: 1,
	})
	f := &farStack{T: t}
	f.must(err)
	f.e = faults.New(inner,
		faults.Options{Remote: &faults.Remote{Latency: faults.Everywhere(faults.Delay{Fixed: trip})}})
	f.store, err = mvcc.Open(t.Context(), f.e, mvcc.Options{NoRemoval: true})
	f.must(err)
	hub := watch.New(watch.Options{})
	head, err := f.store.Head(t.Context())
	f.must(err)
	hub.Start(f.store, head)
	keeper, err := lease.New(f.store, lease.Options{MinTTL: 1})
	f.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	kept := make(chan error, 1)
	go func() { kept <- keeper.Run(ctx) }()
	<-keeper.Ready()

	header := etcdapi.Header{ClusterID: 1, MemberID: 2, RaftTerm: 2}
	// The guard of a pod, with authentication disabled, which must cost nothing.
	guard := etcdapi.NewGuard(f.store, etcdapi.GuardOptions{Keyspace: 1, Shared: true})
	register := func(r grpc.ServiceRegistrar) {
		r = guard.Registrar(r)
		etcdapi.RegisterKV(r, guard.KV(f.store), header, etcdapi.KVOptions{})
		etcdapi.RegisterWatch(r, hub, header, etcdapi.WatchOptions{Guard: guard})
		etcdapi.RegisterLease(r, guard.Leases(keeper), header, f.store)
	}
	local, err := loopback.New(register)
	f.must(err)
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	register(server)
	etcdapi.RegisterLock(guard.Registrar(server), local.Client())
	etcdapi.RegisterElection(guard.Registrar(server), local.Client())
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	f.client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{"memory"}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return listener.DialContext(ctx)
			}),
		},
	})
	f.must(err)
	f.conn = f.client.ActiveConnection()
	t.Cleanup(func() {
		f.must(f.client.Close())
		f.must(local.Close())
		server.Stop()
		<-served
		cancel()
		f.must(<-kept)
		hub.Close()
		f.must(f.store.Close())
		f.must(f.e.Close())
	})
	return f
}

func (f *farStack) must(err error) {
	f.Helper()
	if err != nil {
		f.Error(err)
	}
}

// invoke calls a method of the concurrency services.
func (f *farStack) invoke(method string, req, resp any) {
	f.Helper()
	f.must(f.conn.Invoke(f.Context(), method, req, resp))
}

func (f *farStack) grant(id clientv3.LeaseID) {
	f.Helper()
	_, err := pb.NewLeaseClient(f.conn).LeaseGrant(f.Context(), &pb.LeaseGrantRequest{ID: int64(id), TTL: 1000})
	f.must(err)
}

// keepAlive renews a lease by a stream of its own.
func (f *farStack) keepAlive(id clientv3.LeaseID) {
	f.Helper()
	_, err := f.client.KeepAliveOnce(f.Context(), id)
	f.must(err)
}

// keepAlives renews a lease over streams at the same time, each times one after the other.
func (f *farStack) keepAlives(id clientv3.LeaseID, streams, each int) {
	f.Helper()
	var wg sync.WaitGroup
	for range streams {
		wg.Go(func() {
			s, err := pb.NewLeaseClient(f.conn).LeaseKeepAlive(f.Context())
			f.must(err)
			for range each {
				f.must(s.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}))
				r, err := s.Recv()
				f.must(err)
				if r.GetTTL() != 1000 {
					f.Errorf("a TTL of %d", r.GetTTL())
				}
			}
			f.must(s.CloseSend())
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				f.Error(err)
			}
		})
	}
	wg.Wait()
}

// attach puts n keys of 600 bytes on a lease.
func (f *farStack) attach(id clientv3.LeaseID, n int) {
	f.Helper()
	const together = 100
	value := string(bytes.Repeat([]byte{'v'}, 600))
	for i := 0; i < n; i += together {
		var ops []clientv3.Op
		for j := i; j < i+together; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/registry/events/default/object-%05d", j), value,
				clientv3.WithLease(id)))
		}
		_, err := f.client.Txn(f.Context()).Then(ops...).Commit()
		f.must(err)
	}
}

// TestServiceRoundTrips: what lives above mvcc costs no more round trips than its budget, and docs/round-trips.md says
// so.
func TestServiceRoundTrips(t *testing.T) {
	doc, err := os.ReadFile("../../docs/round-trips.md")
	if err != nil {
		t.Fatal(err)
	}
	const id = 7
	granted := func(f *farStack) { f.grant(id) }
	recent := func(f *farStack) {
		f.grant(id)
		f.keepAlive(id)
	}
	old := func(f *farStack) {
		recent(f)
		time.Sleep(mvcc.RecentHeadMax)
	}
	loaded := func(f *farStack) {
		f.grant(id)
		f.attach(id, 10_000)
	}
	for _, b := range []struct {
		name          string
		trips, serial int64
		prepare, do   func(f *farStack)
	}{
		{"Grant", 5, 3, nil, func(f *farStack) { f.grant(id) }},
		{"Revoke with 10,000 keys", 37, 16, loaded, func(f *farStack) {
			_, err := f.client.Revoke(f.Context(), id)
			f.must(err)
		}},
		{"KeepAlive", 0, 0, recent, func(f *farStack) { f.keepAlive(id) }},
		{"1,000 KeepAlives on 50 streams", 0, 0, recent, func(f *farStack) { f.keepAlives(id, 50, 20) }},
		{"KeepAlive, the first for a second", 3, 2, old, func(f *farStack) { f.keepAlive(id) }},
		{"1,000 KeepAlives on 50 streams, the first for a second", 3, 2, old, func(f *farStack) {
			f.keepAlives(id, 50, 20)
		}},
		{"TimeToLive", 3, 2, granted, func(f *farStack) {
			_, err := f.client.TimeToLive(f.Context(), id)
			f.must(err)
		}},
		{"TimeToLive with 10,000 keys", 14, 14, loaded, func(f *farStack) {
			r, err := f.client.TimeToLive(f.Context(), id, clientv3.WithAttachedKeys())
			f.must(err)
			if len(r.Keys) != 10_000 {
				f.Errorf("%d keys", len(r.Keys))
			}
		}},
		{"Leases", 3, 2, granted, func(f *farStack) {
			_, err := f.client.Leases(f.Context())
			f.must(err)
		}},
		{"Watch create", 3, 2, nil, func(f *farStack) {
			// Not clientv3's: it waits for a channel that is not the bubble's.
			w, err := pb.NewWatchClient(f.conn).Watch(f.Context())
			f.must(err)
			f.must(w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
				CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")},
			}}))
			r, err := w.Recv()
			f.must(err)
			if !r.GetCreated() {
				f.Error("not created")
			}
		}},
		{"Lock", 6, 4, granted, func(f *farStack) {
			f.invoke("/v3lockpb.Lock/Lock", &cpb.LockRequest{Name: []byte("l"), Lease: id}, new(cpb.LockResponse))
		}},
		{"Campaign", 8, 6, granted, func(f *farStack) {
			f.invoke("/v3electionpb.Election/Campaign",
				&cpb.CampaignRequest{Name: []byte("e"), Lease: id, Value: []byte("v")}, new(cpb.CampaignResponse))
		}},
	} {
		t.Run(b.name, func(t *testing.T) {
			if row := fmt.Sprintf("| %s | %d | %d |", b.name, b.trips, b.serial); !strings.Contains(string(doc), row) {
				t.Errorf("docs/round-trips.md lacks: %s", row)
			}
			synctest.Test(t, func(t *testing.T) {
				f := startFar(t)
				if b.prepare != nil {
					b.prepare(f)
				}
				// Nothing is known of the newest state, which somebody else has made; nor is anything under way.
				_, err := f.store.Put(t.Context(), &mvcc.PutRequest{Key: []byte("somebody else's")})
				f.must(err)
				synctest.Wait()
				before, begun := f.e.Trips(), time.Now()
				b.do(f)
				serial := int64((time.Since(begun) + trip - 1) / trip)
				synctest.Wait()
				trips := f.e.Trips().Since(before)
				t.Logf("%s: %v: %d, one after the other %d", b.name, trips, trips.Total(), serial)
				if trips.Total() > b.trips || serial > b.serial {
					t.Errorf("more than its budget of %d and %d", b.trips, b.serial)
				}
			})
		})
	}
}
