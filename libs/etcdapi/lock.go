package etcdapi

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc"

	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
)

// RegisterLock registers v3lockpb.Lock, which runs clientv3's mutex on client (see package loopback) in the name of the
// caller. Errors are sent as by etcd, which does the same: clientv3's errors that are not gRPC errors become Unknown,
// with their text.
func RegisterLock(r grpc.ServiceRegistrar, client *clientv3.Client) {
	r.RegisterService(&lockDesc, &lockService{client: client})
}

var lockDesc = grpc.ServiceDesc{
	ServiceName: "v3lockpb.Lock",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		unary("v3lockpb.Lock", "Lock", (*lockService).lock),
		unary("v3lockpb.Lock", "Unlock", (*lockService).unlock),
	},
}

// unary describes a method that is not registered with generated code.
func unary[S, Req, Resp any](
	service, method string, call func(S, context.Context, *Req) (*Resp, error),
) grpc.MethodDesc {
	handler := func(srv any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
		req := new(Req)
		if err := decode(req); err != nil {
			return nil, err
		}
		if around == nil {
			return call(srv.(S), ctx, req)
		}
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + service + "/" + method}
		return around(ctx, req, info, func(ctx context.Context, req any) (any, error) {
			return call(srv.(S), ctx, req.(*Req))
		})
	}
	return grpc.MethodDesc{MethodName: method, Handler: handler}
}

type lockService struct {
	client *clientv3.Client
}

// lock waits until the caller has the lock of the name, or its context ends.
func (s *lockService) lock(ctx context.Context, r *cpb.LockRequest) (*cpb.LockResponse, error) {
	ctx = asCaller(ctx)
	session, err := orphanedSession(ctx, s.client, r.GetLease())
	if err != nil {
		return nil, err
	}
	m := concurrency.NewMutex(session, string(r.GetName()))
	if err := m.Lock(ctx); err != nil {
		return nil, err
	}
	return &cpb.LockResponse{Header: concurrencyHeader(m.Header()), Key: []byte(m.Key())}, nil
}

// unlock releases the lock of the key. It also succeeds if there is no such key.
func (s *lockService) unlock(ctx context.Context, r *cpb.UnlockRequest) (*cpb.UnlockResponse, error) {
	resp, err := s.client.Delete(asCaller(ctx), string(r.GetKey()))
	if err != nil {
		return nil, err
	}
	return &cpb.UnlockResponse{Header: concurrencyHeader(resp.Header)}, nil
}

// orphanedSession returns a session on a lease that the client keeps alive itself. For lease 0 it makes one of 60 s.
func orphanedSession(ctx context.Context, client *clientv3.Client, leaseID int64) (*concurrency.Session, error) {
	session, err := concurrency.NewSession(client,
		concurrency.WithLease(clientv3.LeaseID(leaseID)), concurrency.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	session.Orphan()
	return session, nil
}

// concurrencyHeader translates the header of an answer of clientv3.
func concurrencyHeader(h *pb.ResponseHeader) *cpb.ResponseHeader {
	if h == nil {
		return nil
	}
	return &cpb.ResponseHeader{ClusterId: h.ClusterId, MemberId: h.MemberId, Revision: h.Revision, RaftTerm: h.RaftTerm}
}

// LockService returns the description of v3lockpb.Lock, for code that relays it. It must not be changed.
func LockService() *grpc.ServiceDesc { return &lockDesc }
