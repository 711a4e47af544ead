package shards

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// granter is another pod, which owns all shards and answers grants in turn; the last answer goes on.
type granter struct {
	pb.LeaseClient
	answers []error
	asked   int
}

func (g *granter) LeaseGrant(
	_ context.Context, r *pb.LeaseGrantRequest, _ ...grpc.CallOption,
) (*pb.LeaseGrantResponse, error) {
	err := g.answers[min(g.asked, len(g.answers)-1)]
	if g.asked++; err != nil {
		return nil, err
	}
	return &pb.LeaseGrantResponse{ID: r.ID, TTL: r.TTL}, nil
}

// TestGrantAskedAgain: a grant that does not reach the owner, or whose answer is lost, is made again until somebody
// answers, as the owner that comes next does, or patience ends. That the lease exists by then is not taken for a word
// about this grant.
func TestGrantAskedAgain(t *testing.T) {
	broken := status.Error(codes.Unavailable, "error reading from server: EOF")
	moved, exists := rpctypes.ErrGRPCLeaderChanged, rpctypes.ErrGRPCLeaseExist
	for name, test := range map[string]struct {
		id      int64
		answers []error
		want    error
		asked   int // 0: as long as patience lasts
	}{
		"at once":                {7, []error{nil}, nil, 1},
		"broken":                 {7, []error{broken, broken, broken, broken, nil}, nil, 5},
		"broken, any id":         {0, []error{broken, broken, broken, broken, nil}, nil, 5},
		"moved":                  {7, []error{moved, nil}, nil, 2},
		"exists":                 {7, []error{exists}, mvcc.ErrLeaseExists, 1},
		"broken, then exists":    {7, []error{broken, exists}, errUnsure, 2},
		"broken, exists, any id": {0, []error{broken, exists, nil}, nil, 3},
		"broken for ever":        {7, []error{broken}, lease.ErrNotOwner, 0},
		"the store is away":      {7, []error{rpctypes.ErrGRPCTimeout}, mvcc.ErrUnavailable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				eng := testengine.OpenInBubble(t, 0)
				store, err := mvcc.Open(t.Context(), eng, mvcc.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				owner := &granter{answers: test.answers}
				s, err := New(store, eng, []byte("c"), Options{
					Self: "self:1", Dial: func(string) (pb.LeaseClient, error) { return owner, nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				for i := range s.shards {
					h := &s.shards[i]
					h.change(func() { h.owner = "owner:1" })
				}
				begin := time.Now()
				_, err = s.Grant(t.Context(), test.id, 60)
				if !errors.Is(err, test.want) || test.asked > 0 && owner.asked != test.asked {
					t.Errorf("%v after %d grants", err, owner.asked)
				}
				patience := ownerWaitFactor * DefaultTTL
				if took := time.Since(begin); took > patience || test.asked == 0 && took < patience {
					t.Errorf("it took %v", took)
				}
				s.closePeers()
			})
		})
	}
}
