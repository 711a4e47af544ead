package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// EmulatedVersion is the etcd release whose surface this package answers for. Clients turn features on by it:
// kube-apiserver needs at least 3.5.13 for progress requests (k8s feature_support_checker.go). It has no suffix since
// Patroni parses it as three integers.
const EmulatedVersion = "3.7.3"

// Header is the part of a response header that never changes while a keyspace exists. All fields are non-zero:
// Cilium and Patroni compare them across endpoints.
type Header struct {
	ClusterID uint64
	MemberID  uint64
	RaftTerm  uint64
}

// At returns the response header for the keyspace at revision rev.
func (h Header) At(rev int64) *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: h.ClusterID, MemberId: h.MemberID, RaftTerm: h.RaftTerm, Revision: rev}
}

// HeadReader tells the keyspace's revision, for the headers of answers that are not about one; *mvcc.Store is one.
type HeadReader interface {
	// Head is the last committed revision. It is not below any revision acknowledged before the call.
	Head(ctx context.Context) (int64, error)
}

// RecentHeadReader tells a revision for the headers of keep-alives; *mvcc.Store is one.
type RecentHeadReader interface {
	HeadReader
	// RecentHead is a committed revision, not below any that this process has answered with before the call. It may be
	// a little older than Head, and seldom asks anybody.
	RecentHead(ctx context.Context) (int64, error)
}
