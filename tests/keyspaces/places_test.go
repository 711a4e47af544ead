package keyspaces

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/libs/config"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// TestPlacesSnapshots: a tenant that begins snapshots and does not read them does not keep others from taking
// snapshots.
func TestPlacesSnapshots(t *testing.T) {
	s := server(t, nil)
	hostile, neighbour, _ := limits(t, s, &keyspacev1.Limits{})
	put(t, hostile, "a", strings.Repeat("v", 1<<20))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// begun begins a snapshot and waits for its first message.
	begun := func(c *clientv3.Client) (grpcStream, error) {
		stream, err := pb.NewMaintenanceClient(c.ActiveConnection()).Snapshot(ctx, &pb.SnapshotRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return stream, rpctypes.Error(err)
	}
	taken := 0
	for ; ; taken++ {
		if _, err := begun(hostile); errors.Is(err, rpctypes.ErrTooManyRequests) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if taken == 0 {
		t.Error("no snapshot was served")
	}
	for range 2 {
		stream, err := begun(neighbour)
		for err == nil {
			_, err = stream.Recv()
		}
		if !errors.Is(err, io.EOF) {
			t.Error("the neighbour:", err)
		}
	}
}

type grpcStream interface {
	Recv() (*pb.SnapshotResponse, error)
}

// slowHash is a hash that takes more than a tenth of a second to compare with.
const slowHash = "$2a$11$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"

// TestPlacesPasswords: the clients of a tenant guess passwords, more at a time than may wait and against an expensive
// hash. Other tenants can still log in.
func TestPlacesPasswords(t *testing.T) {
	s := server(t, func(c *config.Config) { c.BcryptCost = 4 })
	hostile, neighbour, _ := limits(t, s, &keyspacev1.Limits{})
	auth := pb.NewAuthClient(hostile.ActiveConnection())
	if _, err := hostile.UserAdd(t.Context(), "slow", "p"); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.UserChangePassword(t.Context(), &pb.AuthUserChangePasswordRequest{
		Name: "slow", HashedPassword: base64.StdEncoding.EncodeToString([]byte(slowHash)),
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*clientv3.Client{hostile, neighbour} {
		enableAuth(t, c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	full := make(chan struct{})
	refused := sync.OnceFunc(func() { close(full) })
	var guesses sync.WaitGroup
	var left atomic.Int64
	for range 200 { // more than the server lets wait
		left.Add(1)
		guesses.Go(func() {
			defer left.Add(-1)
			_, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "slow", Password: "a guess"})
			if errors.Is(rpctypes.Error(err), rpctypes.ErrTooManyRequests) {
				refused()
			}
		})
	}
	<-full
	c := pb.NewAuthClient(neighbour.ActiveConnection())
	if _, err := c.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: "root"}); err != nil {
		t.Error("the neighbour:", err)
	}
	if n := left.Load(); n < 30 { // of more than a hundred
		t.Errorf("the neighbour has waited until %d guesses were left", n)
	}
	cancel()
	guesses.Wait()
}
