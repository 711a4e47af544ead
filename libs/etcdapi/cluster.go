package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Member is this server as MemberList shows it. clientv3.Sync takes only members with a name and at least one client
// URL (etcd client/v3/client.go, Sync); Patroni and Cilium read the same list.
type Member struct {
	Name       string   // never empty
	ClientURLs []string // advertised client URLs
	// PeerURLs are shown as peer URLs. Nobody listens there, but clients think that a member without them has not
	// started.
	PeerURLs []string
}

// errOneMember answers requests that would change the membership. etcd has no code for a server that cannot have other
// members, so this is plain Unimplemented.
var errOneMember = status.Error(
	codes.Unimplemented, "headwater: the server has exactly one member, which cannot be changed",
)

// RegisterCluster registers etcdserverpb.Cluster for a server that is the only member of its cluster.
func RegisterCluster(r grpc.ServiceRegistrar, h Header, m Member) {
	pb.RegisterClusterServer(r, &clusterServer{header: h, member: m})
}

type clusterServer struct {
	header Header
	member Member

	// UnsafeClusterServer makes an RPC added to the API a compile error here.
	pb.UnsafeClusterServer
}

// MemberList answers with header revision 0, as etcd does for all membership requests.
func (s *clusterServer) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return &pb.MemberListResponse{
		Header: s.header.At(0),
		Members: []*pb.Member{{
			ID:         s.header.MemberID,
			Name:       s.member.Name,
			ClientURLs: s.member.ClientURLs,
			PeerURLs:   s.member.PeerURLs,
		}},
	}, nil
}

// MemberAdd checks the peer URLs as etcd does and then refuses.
func (s *clusterServer) MemberAdd(_ context.Context, r *pb.MemberAddRequest) (*pb.MemberAddResponse, error) {
	if _, err := types.NewURLs(r.GetPeerURLs()); err != nil {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	return nil, errOneMember
}

// MemberRemove refuses to remove the only member with the error etcd has for it (removing the last started member
// would lose quorum).
func (s *clusterServer) MemberRemove(_ context.Context, r *pb.MemberRemoveRequest) (*pb.MemberRemoveResponse, error) {
	if r.GetID() == s.header.MemberID {
		return nil, rpctypes.ErrGRPCMemberNotEnoughStarted
	}
	return nil, rpctypes.ErrGRPCMemberNotFound
}

// MemberUpdate would change peer URLs, at which nobody listens.
func (s *clusterServer) MemberUpdate(_ context.Context, r *pb.MemberUpdateRequest) (*pb.MemberUpdateResponse, error) {
	if r.GetID() == s.header.MemberID {
		return nil, errOneMember
	}
	return nil, rpctypes.ErrGRPCMemberNotFound
}

// MemberPromote answers as etcd does where no member is a learner.
func (s *clusterServer) MemberPromote(
	_ context.Context, r *pb.MemberPromoteRequest,
) (*pb.MemberPromoteResponse, error) {
	if r.GetID() == s.header.MemberID {
		return nil, rpctypes.ErrGRPCMemberNotLearner
	}
	return nil, rpctypes.ErrGRPCMemberNotFound
}
