package nullserver

import (
	"context"
	"errors"
	"io"
	"net"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// revision is in all headers.
const revision = 1

// Serve answers on lis until ctx ends, then closes lis and all connections. valSize is the size of the values it
// returns, in bytes.
func Serve(ctx context.Context, lis net.Listener, valSize int) error {
	srv := grpc.NewServer()
	h := &pb.ResponseHeader{ClusterId: 1, MemberId: 1, Revision: revision, RaftTerm: 1}
	pb.RegisterKVServer(srv, &kv{header: h, value: make([]byte, valSize)})
	pb.RegisterLeaseServer(srv, &lease{header: h})
	pb.RegisterWatchServer(srv, &watch{header: h})
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	if err := srv.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

type kv struct {
	pb.UnimplementedKVServer
	header *pb.ResponseHeader
	value  []byte
}

func (s *kv) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return s.rangeOne(r), nil
}

func (s *kv) rangeOne(r *pb.RangeRequest) *pb.RangeResponse {
	resp := &pb.RangeResponse{Header: s.header, Count: 1}
	if r.CountOnly {
		return resp
	}
	kv := &mvccpb.KeyValue{Key: r.Key, CreateRevision: revision, ModRevision: revision, Version: 1, Value: s.value}
	if r.KeysOnly {
		kv.Value = nil
	}
	resp.Kvs = []*mvccpb.KeyValue{kv}
	return resp
}

func (s *kv) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: s.header}, nil
}

func (s *kv) DeleteRange(context.Context, *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return &pb.DeleteRangeResponse{Header: s.header, Deleted: 1}, nil
}

func (s *kv) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp := &pb.TxnResponse{Header: s.header, Succeeded: true, Responses: make([]*pb.ResponseOp, len(r.Success))}
	for i, op := range r.Success {
		resp.Responses[i] = s.answer(op)
	}
	return resp, nil
}

func (s *kv) answer(op *pb.RequestOp) *pb.ResponseOp {
	switch op := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponseRange{ResponseRange: s.rangeOne(op.RequestRange)}}
	case *pb.RequestOp_RequestDeleteRange:
		return &pb.ResponseOp{
			Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: &pb.DeleteRangeResponse{Deleted: 1}},
		}
	default:
		return &pb.ResponseOp{Response: &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}}
	}
}

func (s *kv) Compact(context.Context, *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return &pb.CompactionResponse{Header: s.header}, nil
}

type lease struct {
	pb.UnimplementedLeaseServer
	header *pb.ResponseHeader
}

func (s *lease) LeaseGrant(_ context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{Header: s.header, ID: max(r.ID, 1), TTL: r.TTL}, nil
}

func (s *lease) LeaseRevoke(context.Context, *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return &pb.LeaseRevokeResponse{Header: s.header}, nil
}

func (s *lease) LeaseKeepAlive(
	stream grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse],
) error {
	const ttl = 60
	for {
		r, err := stream.Recv()
		if err != nil {
			return endOfStream(err)
		}
		if err := stream.Send(&pb.LeaseKeepAliveResponse{Header: s.header, ID: r.ID, TTL: ttl}); err != nil {
			return err
		}
	}
}

type watch struct {
	pb.UnimplementedWatchServer
	header *pb.ResponseHeader
}

func (s *watch) Watch(stream grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]) error {
	for id := int64(0); ; {
		r, err := stream.Recv()
		if err != nil {
			return endOfStream(err)
		}
		if r.GetCreateRequest() == nil {
			continue
		}
		if err := stream.Send(&pb.WatchResponse{Header: s.header, WatchId: id, Created: true}); err != nil {
			return err
		}
		id++
	}
}

// endOfStream is the result of a handler whose client sends no more.
func endOfStream(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
