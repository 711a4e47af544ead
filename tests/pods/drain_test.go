package pods

import (
	"context"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// TestDrainEndsStreams: a pod that drains ends every stream with Unavailable, before it closes the connections after
// server.StopGrace. So clients turn to another pod at once.
func TestDrainEndsStreams(t *testing.T) {
	for _, k := range pods.Kinds {
		t.Run(string(k), func(t *testing.T) {
			for range 3 { // a busy machine may not send the answers within StopGrace
				if drainEndsStreams(t, k) {
					return
				}
			}
			t.Error("three times a stream has ended with its connection")
		})
	}
}

// drainEndsStreams says whether all streams of a pod that drains ended with the server's own error.
func drainEndsStreams(t *testing.T, k config.Kind) bool {
	t.Helper()
	d := deploy(t, 1)
	d.startAll()
	ctx, conn := d.context(), d.client(d.Endpoint(k, 0)).ActiveConnection()
	var lease *pb.LeaseGrantResponse
	eventually(t, "relayed: the pods started one after the other", func() (ok bool) {
		var err error
		lease, err = pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
		return err == nil
	})
	alive, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
	if err == nil {
		err = alive.Send(&pb.LeaseKeepAliveRequest{ID: lease.ID})
	}
	if err == nil {
		_, err = alive.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	election := v3electionpb.NewElectionClient(conn)
	eventually(t, "relayed", func() bool {
		_, err := election.Campaign(ctx, &v3electionpb.CampaignRequest{Name: []byte("e"), Lease: lease.ID})
		return err == nil
	})
	observe, err := election.Observe(ctx, &v3electionpb.LeaderRequest{Name: []byte("e")})
	if err == nil {
		_, err = observe.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	go d.Node(k, 0).Drain(context.Background()) // Close waits for it
	own := true
	for what, recv := range map[string]func() error{
		"keep-alive": func() error { _, err := alive.Recv(); return err },
		"observe":    func() error { _, err := observe.Recv(); return err },
	} {
		err := recv()
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s ended with %v", what, err)
		}
		if status.Convert(err).Message() != "etcdserver: server stopped" {
			t.Logf("%s ended with %v", what, err)
			own = false
		}
	}
	return own
}
