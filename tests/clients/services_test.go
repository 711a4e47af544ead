package clients

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func dial(t *testing.T, s *server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.Endpoint(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func grantLease(ctx context.Context, t *testing.T, conn *grpc.ClientConn) int64 {
	t.Helper()
	res, err := pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
	if err != nil {
		t.Fatal(err)
	}
	return res.GetID()
}

// TestLockService: the server-side lock of v3lockpb.
func TestLockService(t *testing.T) {
	conn, ctx := dial(t, start(t)), timeout(t)
	lock := v3lockpb.NewLockClient(conn)
	first, err := lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l"), Lease: grantLease(ctx, t, conn)})
	if err != nil {
		t.Fatal(err)
	}
	if first.GetHeader().GetClusterId() == 0 || first.GetHeader().GetRevision() == 0 || len(first.GetKey()) == 0 {
		t.Errorf("lock: %v", first)
	}
	type answer struct {
		*v3lockpb.LockResponse
		err error
	}
	second := make(chan answer, 1)
	lease := grantLease(ctx, t, conn)
	go func() {
		res, err := lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l"), Lease: lease})
		second <- answer{res, err}
	}()
	kv := pb.NewKVClient(conn)
	eventually(t, "the second waiter's key", func() bool {
		res, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte("l/"), RangeEnd: []byte("l0"), CountOnly: true})
		return err == nil && res.GetCount() == 2
	})
	select {
	case a := <-second:
		t.Fatalf("two owners: %v", a)
	default:
	}
	if _, err := lock.Unlock(ctx, &v3lockpb.UnlockRequest{Key: first.GetKey()}); err != nil {
		t.Fatal(err)
	}
	a := <-second
	if a.err != nil {
		t.Fatal(a.err)
	}
	if _, err := lock.Unlock(ctx, &v3lockpb.UnlockRequest{Key: a.GetKey()}); err != nil {
		t.Fatal(err)
	}
	_, err = lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("l"), Lease: 12345})
	if status.Convert(err).Message() != "etcdserver: requested lease not found" {
		t.Errorf("lock with an unknown lease: %v", err)
	}
	// If the request names no lease, the server makes one and keeps it alive.
	res, err := lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte("own")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Unlock(ctx, &v3lockpb.UnlockRequest{Key: res.GetKey()}); err != nil {
		t.Fatal(err)
	}
}

// TestElectionService: the server-side election of v3electionpb.
func TestElectionService(t *testing.T) {
	conn, ctx := dial(t, start(t)), timeout(t)
	election := v3electionpb.NewElectionClient(conn)
	name := []byte("office")
	if _, err := election.Leader(ctx,
		&v3electionpb.LeaderRequest{Name: name}); status.Convert(err).Message() != "election: no leader" {
		t.Errorf("no leader yet: %v", err)
	}
	observing, stop := context.WithCancel(ctx)
	defer stop()
	seen, err := election.Observe(observing, &v3electionpb.LeaderRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	first, err := election.Campaign(ctx, &v3electionpb.CampaignRequest{
		Name: name, Lease: grantLease(ctx, t, conn), Value: []byte("first"),
	})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		for {
			res, err := seen.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if string(res.GetKv().GetValue()) == want {
				return
			}
		}
	}
	expect("first")
	if _, err := election.Proclaim(ctx, &v3electionpb.ProclaimRequest{
		Leader: first.GetLeader(), Value: []byte("first again"),
	}); err != nil {
		t.Fatal(err)
	}
	expect("first again")
	leader, err := election.Leader(ctx, &v3electionpb.LeaderRequest{Name: name})
	if err != nil || string(leader.GetKv().GetValue()) != "first again" {
		t.Errorf("leader: %v, %v", leader, err)
	}
	lease := grantLease(ctx, t, conn)
	won := make(chan error, 1)
	go func() {
		_, err := election.Campaign(ctx, &v3electionpb.CampaignRequest{
			Name: name, Lease: lease, Value: []byte("second"),
		})
		won <- err
	}()
	if _, err := election.Resign(ctx, &v3electionpb.ResignRequest{Leader: first.GetLeader()}); err != nil {
		t.Fatal(err)
	}
	if err := <-won; err != nil {
		t.Fatal(err)
	}
	expect("second")
	if _, err := election.Proclaim(ctx, &v3electionpb.ProclaimRequest{
		Leader: first.GetLeader(), Value: []byte("late"),
	}); status.Convert(err).Message() != "election: not leader" {
		t.Errorf("proclaim of a former leader: %v", err)
	}
	for what, call := range map[string]func() error{
		"proclaim": func() error { _, err := election.Proclaim(ctx, &v3electionpb.ProclaimRequest{}); return err },
		"resign":   func() error { _, err := election.Resign(ctx, &v3electionpb.ResignRequest{}); return err },
	} {
		if err := call(); status.Convert(err).Message() != `"leader" field must be provided` {
			t.Errorf("%s without a leader: %v", what, err)
		}
	}
}

// TestHealthService: grpc.health.v1.
func TestHealthService(t *testing.T) {
	conn, ctx := dial(t, start(t)), timeout(t)
	res, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil || res.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", res, err)
	}
}
