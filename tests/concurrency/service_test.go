package concurrency

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/wire"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

// side is one implementation of the two services, and the store that it works on.
type side struct {
	lock     v3lockpb.LockClient
	election v3electionpb.ElectionClient
	store    *clientv3.Client
}

// sides returns etcd's services on one etcd and ours on another. Both etcds are fresh, so that revisions are
// comparable.
func sides(t *testing.T) (theirs, ours side) {
	t.Helper()
	theirs, ours = side{store: etcd(t)}, side{store: etcd(t)}
	theirs.lock = v3lockpb.NewLockClient(theirs.store.ActiveConnection())
	theirs.election = v3electionpb.NewElectionClient(theirs.store.ActiveConnection())

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(wire.Codec{}))
	etcdapi.RegisterLock(server, ours.store)
	etcdapi.RegisterElection(server, ours.store)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		<-served
	})
	ours.lock, ours.election = v3lockpb.NewLockClient(conn), v3electionpb.NewElectionClient(conn)
	return theirs, ours
}

// etcd starts a real etcd and returns a client of it.
func etcd(t *testing.T) *clientv3.Client {
	t.Helper()
	server, err := refetcd.Start()
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + server.Addr()}, Logger: zap.NewNop()})
	if err != nil {
		server.Remove()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		server.Remove()
	})
	return client
}

// trace collects the answers of one side as text, for comparison.
type trace struct {
	t     *testing.T
	lines []string
}

// add records an answer. If the client has ended a call, add records only the code, because the text depends on who
// notices the end first: the client or one of the server's two timers.
func (tr *trace) add(name string, m proto.Message, err error) {
	tr.t.Helper()
	switch code := status.Code(err); code {
	case codes.Canceled, codes.DeadlineExceeded:
		tr.lines = append(tr.lines, fmt.Sprintf("%s: %s", name, code))
		return
	}
	if err != nil {
		tr.lines = append(tr.lines, fmt.Sprintf("%s: %s: %s", name, status.Code(err), status.Convert(err).Message()))
		return
	}
	clearIDs(m)
	var canonical any // protojson varies its spaces on purpose
	b, err := protojson.Marshal(m)
	if err != nil {
		tr.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &canonical); err != nil {
		tr.t.Fatal(err)
	}
	tr.lines = append(tr.lines, fmt.Sprintf("%s: %v", name, canonical))
}

// clearIDs clears the fields of the header that differ between two clusters.
func clearIDs(m proto.Message) {
	r := m.ProtoReflect()
	field := r.Descriptor().Fields().ByName("header")
	if field == nil || !r.Has(field) {
		return
	}
	header := r.Mutable(field).Message()
	for _, name := range []protoreflect.Name{"cluster_id", "member_id", "raft_term"} {
		header.Clear(header.Descriptor().Fields().ByName(name))
	}
}

// compare runs the same scenario on both sides.
func compare(t *testing.T, scenario func(tr *trace, s side)) {
	t.Helper()
	theirs, ours := sides(t)
	want, got := &trace{t: t}, &trace{t: t}
	scenario(want, theirs)
	scenario(got, ours)
	for _, line := range want.lines {
		t.Log(line)
	}
	if d := cmp.Diff(want.lines, got.lines); d != "" {
		t.Errorf("etcd's answers (-) and ours (+): %s", d)
	}
}

func (s side) grant(t *testing.T, ids ...int64) {
	t.Helper()
	lease := pb.NewLeaseClient(s.store.ActiveConnection())
	for _, id := range ids {
		if _, err := lease.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 600}); err != nil {
			t.Fatal(err)
		}
	}
}

// waitTimeout bounds a wait for something that comes soon, unless the machine is busy.
const waitTimeout = 2 * time.Minute

// waitKeys polls until there are n keys under prefix, which means that n clients wait for the lock or are candidates.
func (s side) waitKeys(t *testing.T, prefix string, n int64) {
	t.Helper()
	deadline := time.Now().Add(waitTimeout)
	for {
		r, err := s.store.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		if r.Count == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d keys under %s, want %d", r.Count, prefix, n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestLock(t *testing.T) {
	compare(t, func(tr *trace, s side) {
		ctx := t.Context()
		s.grant(t, 1, 2)
		lock := func(ctx context.Context, lease int64) (report func(name string)) {
			r, err := s.lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l"), Lease: lease})
			return func(name string) { tr.add(name, r, err) }
		}
		unlock := func(name, key string) {
			r, err := s.lock.Unlock(ctx, &v3lockpb.UnlockRequest{Key: []byte(key)})
			tr.add(name, r, err)
		}
		lock(ctx, 1)("first")
		lock(ctx, 1)("same lease again")
		lock(ctx, 99)("unknown lease")

		second := make(chan func(string))
		patient, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() { second <- lock(patient, 2) }()
		s.waitKeys(t, "l/", 2)
		cancel()
		(<-second)("out of patience")
		s.waitKeys(t, "l/", 1) // it does not stay in the queue

		go func() { second <- lock(ctx, 2) }()
		s.waitKeys(t, "l/", 2)
		unlock("first", "l/1")
		(<-second)("second, after the first")
		if _, err := s.store.Revoke(ctx, 2); err != nil {
			t.Fatal(err)
		}
		unlock("whose lease is gone", "l/2")
		unlock("empty key", "")
		r, err := s.lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("own lease")})
		if err == nil {
			r.Key = nil // it holds the lease that the server chose
		}
		tr.add("own lease", r, err)
	})
}

func TestElection(t *testing.T) {
	compare(t, func(tr *trace, s side) {
		ctx := t.Context()
		s.grant(t, 1, 2)
		campaign := func(lease int64, value string) (report func() *v3electionpb.LeaderKey) {
			r, err := s.election.Campaign(ctx, &v3electionpb.CampaignRequest{
				Name: []byte("e"), Lease: lease, Value: []byte(value),
			})
			return func() *v3electionpb.LeaderKey {
				tr.add("campaign", r, err)
				return r.GetLeader()
			}
		}
		proclaim := func(leader *v3electionpb.LeaderKey, value string) {
			r, err := s.election.Proclaim(ctx, &v3electionpb.ProclaimRequest{Leader: leader, Value: []byte(value)})
			tr.add("proclaim", r, err)
		}
		leader := func() {
			r, err := s.election.Leader(ctx, &v3electionpb.LeaderRequest{Name: []byte("e")})
			tr.add("leader", r, err)
		}
		resign := func(leader *v3electionpb.LeaderKey) {
			r, err := s.election.Resign(ctx, &v3electionpb.ResignRequest{Leader: leader})
			tr.add("resign", r, err)
		}
		leader()
		proclaim(nil, "x")
		resign(nil)
		first := campaign(1, "one")()
		leader()
		watch, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := s.election.Observe(watch, &v3electionpb.LeaderRequest{Name: []byte("e")})
		if err != nil {
			t.Fatal(err)
		}
		observe := func() {
			r, err := stream.Recv()
			tr.add("observe", r, err)
		}
		observe()
		proclaim(first, "uno")
		observe()
		campaign(1, "eins")() // the same lease: a proclamation
		observe()
		campaign(99, "no lease")()

		elected := make(chan func() *v3electionpb.LeaderKey)
		go func() { elected <- campaign(2, "two") }()
		s.waitKeys(t, "e/", 2)
		resign(first)
		second := (<-elected)()
		observe()
		leader()
		proclaim(first, "no more")
		resign(first)
		if _, err := s.store.Revoke(ctx, 2); err != nil {
			t.Fatal(err)
		}
		leader()
		proclaim(second, "no more")
		cancel()
		observe()
	})
}
