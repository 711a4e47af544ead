package etcdapi

import (
	"context"
	"errors"
	"io"
	"reflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/watch"
)

// watchFragmentOverhead is what etcd adds to the request limit to get the size at which a watch response is split
// (embed: MaxRequestBytesWithOverhead).
const watchFragmentOverhead = 512 << 10

// WatchOptions configures the Watch service.
type WatchOptions struct {
	// MaxRequestBytes is the server's --max-request-bytes, from which the size of fragments follows. 0 is the default.
	MaxRequestBytes int
}

// RegisterWatch adds etcd's Watch service to r, served by hub. The server must use wire.Codec
// (grpc.ForceServerCodecV2): responses encode themselves. The hub must have been started before the first stream comes,
// else streams are refused as Unavailable.
func RegisterWatch(r grpc.ServiceRegistrar, hub *watch.Hub, h Header, o WatchOptions) {
	if o.MaxRequestBytes <= 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	w := &watchService{hub: hub, enc: newWatchEncoder(h), maxFragment: o.MaxRequestBytes + watchFragmentOverhead}
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "etcdserverpb.Watch",
		HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{
			StreamName: "Watch", ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return w.serve(stream) },
		}},
		Metadata: "rpc.proto",
	}, w)
}

type watchService struct {
	hub         *watch.Hub
	enc         *watchEncoder
	maxFragment int
}

// serve runs one stream until the client goes, a request or response fails, or the hub drains. It sends in the RPC's own
// goroutine and receives in one more.
func (w *watchService) serve(stream grpc.ServerStream) error {
	s, err := w.hub.OpenOn(connOf(stream.Context()))
	if err != nil {
		return watchErr(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	go func() {
		// A client that only closes its sending side keeps getting events, as in etcd.
		if err := w.receive(ctx, s, stream); !errors.Is(err, io.EOF) {
			cancel(err)
		}
	}()
	err = w.send(ctx, s, stream)
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	return watchErr(err)
}

// connOf returns a value that tells the connection of an RPC from all others, or nil if there is none: the address of the
// peer, which a connection makes once, so that even those without a name (Unix sockets) differ by pointer.
func connOf(ctx context.Context) any {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil || !reflect.TypeOf(p.Addr).Comparable() {
		return nil
	}
	return p.Addr
}

func (w *watchService) receive(ctx context.Context, s *watch.Stream, stream grpc.ServerStream) error {
	for {
		req := new(pb.WatchRequest)
		if err := stream.RecvMsg(req); err != nil {
			return err
		}
		if err := w.request(ctx, s, req); err != nil {
			return err
		}
	}
}

// request does what one message asks for; a message that asks for nothing known is ignored, as in etcd.
func (w *watchService) request(ctx context.Context, s *watch.Stream, req *pb.WatchRequest) error {
	switch u := req.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		if u.CreateRequest != nil {
			return s.Create(ctx, watchCreate(u.CreateRequest))
		}
	case *pb.WatchRequest_CancelRequest:
		if u.CancelRequest != nil {
			return s.Cancel(ctx, u.CancelRequest.WatchId)
		}
	case *pb.WatchRequest_ProgressRequest:
		if u.ProgressRequest != nil {
			return s.RequestProgress(ctx)
		}
	}
	return nil
}

func watchCreate(r *pb.WatchCreateRequest) watch.CreateRequest {
	c := watch.CreateRequest{
		Key: r.Key, RangeEnd: r.RangeEnd, StartRevision: r.StartRevision, WatchID: r.WatchId,
		PrevKV: r.PrevKv, ProgressNotify: r.ProgressNotify, Fragment: r.Fragment,
	}
	for _, f := range r.Filters {
		switch f {
		case pb.WatchCreateRequest_NOPUT:
			c.Filter |= watch.NoPut
		case pb.WatchCreateRequest_NODELETE:
			c.Filter |= watch.NoDelete
		}
	}
	return c
}

// send is the stream's only sender, so what the hub hands out in order leaves in order.
func (w *watchService) send(ctx context.Context, s *watch.Stream, stream grpc.ServerStream) error {
	var turn []watch.Response
	for {
		var err error
		if turn, err = s.Next(ctx, turn[:0]); err != nil {
			return err
		}
		for i := range turn {
			if err := w.sendOne(stream, &turn[i]); err != nil {
				return err
			}
			s.Sent(&turn[i])
			turn[i] = watch.Response{} // its events may go
		}
		if cap(turn) > maxKeptTurn {
			turn = nil
		}
	}
}

// maxKeptTurn is the number of responses for which a stream keeps its slice between turns.
const maxKeptTurn = 256

func (w *watchService) sendOne(stream grpc.ServerStream, r *watch.Response) error {
	if !r.Fragment || len(r.Events) < 2 {
		return stream.SendMsg(w.enc.message(r, r.Events, false))
	}
	return w.enc.fragments(r, w.maxFragment, func(m *watchMessage) error { return stream.SendMsg(m) })
}

// watchErr gives a stream's end the status that makes clients do the right thing: clientv3 resumes all watches of a
// stream that ended with Unavailable (unless the text is "no leader") and gives up on all others.
func watchErr(err error) error {
	switch {
	case errors.Is(err, watch.ErrStopped):
		return rpctypes.ErrGRPCStopped
	case errors.Is(err, watch.ErrTooManyStreams):
		return rpctypes.ErrGRPCRequestTooManyRequests
	case errors.Is(err, watch.ErrTooManyStreamsPerConn):
		return status.Error(codes.ResourceExhausted, "etcdserver: too many watch streams on one connection")
	case errors.Is(err, context.Canceled), errors.Is(err, watch.ErrClosed):
		return rpctypes.ErrGRPCWatchCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Errorf(codes.Unavailable, "etcdserver: watch cannot be served now: %v", err)
}
