package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// EmulatedVersion is the etcd release whose API this package implements. Clients use it to turn features on:
// kube-apiserver needs at least 3.5.13 for progress requests (k8s feature_support_checker.go). It has no suffix,
// because Patroni parses it as three integers.
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

// HeadReader returns the keyspace's revision, for headers of answers that have none of their own. *mvcc.Store is one.
type HeadReader interface {
	// Head returns the last committed revision. It is not below any revision acknowledged before the call.
	Head(ctx context.Context) (int64, error)
}

// RecentHeadReader returns a revision for the headers of keep-alives. *mvcc.Store is one.
type RecentHeadReader interface {
	HeadReader
	// RecentHead returns a committed revision that is not below any with which this process has answered before the
	// call. It may be a little older than Head, and rarely reads from the store.
	RecentHead(ctx context.Context) (int64, error)
}
