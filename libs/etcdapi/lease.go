package etcdapi

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/lease"
)

// LeaseKeeper is the owner of the leases. lease.Keeper implements it, and its methods are described there.
type LeaseKeeper interface {
	Grant(ctx context.Context, id, ttl int64) (lease.Granted, error)
	Revoke(ctx context.Context, id int64) (rev int64, err error)
	TryRenew(id int64) (ttl int64, ok bool)
	Renew(ctx context.Context, id int64) (ttl int64, err error)
	TimeToLive(ctx context.Context, id int64, keys bool) (info lease.Info, found bool, err error)
	Leases(ctx context.Context) ([]int64, error)
}

// RegisterLease registers etcdserverpb.Lease. The server must use wire.Codec (grpc.ForceServerCodecV2): keep-alives are
// messages that encode themselves.
func RegisterLease(r grpc.ServiceRegistrar, keeper LeaseKeeper, header Header, head RecentHeadReader) {
	registerLease(r, &leaseService{keeper: keeper, header: header, head: head})
}

// RegisterShardedLease is RegisterLease for a keeper whose leases several pods share (shards.Shards). A stream from one
// of these pods carries the renewals of many clients, and goes on when one of them has to be asked for again
// (lease.NotOwnedTTL).
func RegisterShardedLease(r grpc.ServiceRegistrar, keeper LeaseKeeper, header Header, head RecentHeadReader) {
	registerLease(r, &leaseService{keeper: keeper, header: header, head: head, sharded: true})
}

func registerLease(r grpc.ServiceRegistrar, s *leaseService) {
	s.renews, _ = s.keeper.(renewChecker)
	s.encoder, s.draining = keepAliveEncoder{newHeaderCodec(s.header)}, draining(r)
	pb.RegisterLeaseServer(r, s)
}

type leaseService struct {
	pb.UnsafeLeaseServer

	keeper  LeaseKeeper
	header  Header
	head    RecentHeadReader
	encoder keepAliveEncoder
	renews  renewChecker // nil: everybody may renew
	sharded bool         // see RegisterShardedLease

	draining context.Context // see draining
}

var _ pb.LeaseServer = (*leaseService)(nil)

// LeaseGrant implements pb.LeaseServer.
func (s *leaseService) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	g, err := s.keeper.Grant(ctx, r.ID, r.TTL)
	if err != nil {
		return nil, leaseErr(err)
	}
	return &pb.LeaseGrantResponse{Header: s.header.At(g.Rev), ID: g.ID, TTL: g.TTL}, nil
}

// LeaseRevoke implements pb.LeaseServer.
func (s *leaseService) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	rev, err := s.keeper.Revoke(ctx, r.ID)
	if err != nil {
		return nil, leaseErr(err)
	}
	return &pb.LeaseRevokeResponse{Header: s.header.At(rev)}, nil
}

// LeaseTimeToLive implements pb.LeaseServer. A lease that does not exist is not an error: its TTL is that of a lease
// that is gone.
func (s *leaseService) LeaseTimeToLive(
	ctx context.Context, r *pb.LeaseTimeToLiveRequest,
) (*pb.LeaseTimeToLiveResponse, error) {
	info, found, err := s.keeper.TimeToLive(ctx, r.ID, r.Keys)
	if err != nil {
		return nil, leaseErr(err)
	}
	if !found {
		return &pb.LeaseTimeToLiveResponse{Header: s.header.At(info.Rev), ID: r.ID, TTL: lease.GoneTTL}, nil
	}
	return &pb.LeaseTimeToLiveResponse{
		Header: s.header.At(info.Rev), ID: r.ID, TTL: info.Remaining, GrantedTTL: info.TTL, Keys: info.Keys,
	}, nil
}

// LeaseLeases implements pb.LeaseServer.
func (s *leaseService) LeaseLeases(ctx context.Context, _ *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	rev, err := s.head.Head(ctx)
	if err != nil {
		return nil, leaseErr(err)
	}
	ids, err := s.keeper.Leases(ctx)
	if err != nil {
		return nil, leaseErr(err)
	}
	// One block for all of them: there may be hundreds of thousands.
	statuses := make([]pb.LeaseStatus, len(ids))
	leases := make([]*pb.LeaseStatus, len(ids))
	for i, id := range ids {
		statuses[i].ID = id
		leases[i] = &statuses[i]
	}
	return &pb.LeaseLeasesResponse{Header: s.header.At(rev), Leases: leases}, nil
}

// leaseErr is Err for the keeper's errors. A keeper that has been deposed knows nothing about a lease. It answers
// Unavailable, so that clientv3 sends its keep-alives elsewhere. etcd's Unknown "not a primary lessor" made clients
// give up (etcd#21671).
func leaseErr(err error) error {
	if errors.Is(err, lease.ErrNotOwner) {
		return rpctypes.ErrGRPCLeaderChanged
	}
	return Err(err)
}
