package etcdapi

import (
	"context"
	"errors"
	"io"
	"reflect"
	"time"

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
	// MaxRequestBytes is the server's --max-request-bytes. The size of fragments follows from it. 0 means the default.
	MaxRequestBytes int
	// Guard decides who may watch what; nil: everybody may watch everything.
	Guard *Guard
	// Turn, if set, lets the services of a process take turns for making what they send.
	Turn Turn
	// Sent is called after each turn of responses has been sent: with how long that took, and the numbers of events, of
	// answers to requests (created, canceled) and of progress notifications. It is called from any goroutine and may be
	// nil.
	Sent func(took time.Duration, events, control, progress int)
	// Delivered is called after each turn with events has been sent, with the lowest and the highest of their
	// revisions. It is called as Sent and may be nil.
	Delivered func(first, last int64)
}

// WatchHub opens streams; *watch.Hub is one.
type WatchHub interface {
	OpenOn(conn any) (*watch.Stream, error)
}

// RegisterWatch registers etcd's Watch service on r, served by hub. The server must use wire.Codec
// (grpc.ForceServerCodecV2), because responses encode themselves. The hub must be started before the first stream
// comes. Otherwise streams are refused as Unavailable.
func RegisterWatch(r grpc.ServiceRegistrar, hub WatchHub, h Header, o WatchOptions) {
	if o.MaxRequestBytes <= 0 {
		o.MaxRequestBytes = DefaultMaxRequestBytes
	}
	w := &watchService{
		hub:         hub,
		enc:         newWatchEncoder(h),
		turn:        o.Turn,
		guard:       o.Guard,
		maxFragment: o.MaxRequestBytes + watchFragmentOverhead,
		sent:        o.Sent,
		delivered:   o.Delivered,
	}
	if c, ok := r.(sentCounter); ok {
		w.count = func(messages, bytes int) { c.AddSent(watchMethod, messages, bytes) }
	}
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
	hub         WatchHub
	enc         *watchEncoder
	maxFragment int
	guard       *Guard
	turn        Turn // nil: nothing is shared
	// count is called with messages that the server's codec does not see. It may be nil.
	count func(messages, bytes int)
	sent  func(took time.Duration, events, control, progress int)
	// delivered is called with the revisions of a turn.
	delivered func(first, last int64)
}

// watchMethod is the full name of the method.
const watchMethod = "/etcdserverpb.Watch/Watch"

// sentCounter is implemented by a registrar that counts messages and their bytes.
type sentCounter interface {
	AddSent(fullMethod string, messages, bytes int)
}

// serve runs one stream until the client goes, a request or response fails, or the hub drains. The RPC's own goroutine
// sends, and another one receives.
func (w *watchService) serve(stream grpc.ServerStream) error {
	s, err := w.hub.OpenOn(connOf(stream.Context()))
	if err != nil {
		return watchErr(err)
	}
	defer s.Close()
	if w.guard != nil {
		s.SetAccess(w.guard.newWatchAccess(stream.Context()))
	}
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

// connOf returns a value that identifies the connection of an RPC, or nil if there is none. It is the address of the
// peer, which a connection makes once, so that even connections without a name (Unix sockets) have different pointers.
func connOf(ctx context.Context) any {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil || !reflect.TypeOf(p.Addr).Comparable() {
		return nil
	}
	return p.Addr
}

func (w *watchService) receive(ctx context.Context, s *watch.Stream, stream grpc.ServerStream) error {
	var req watchRequest
	for {
		if err := stream.RecvMsg(&req); err != nil {
			return err
		}
		var err error
		switch req.kind {
		case watchCreate:
			err = s.Create(ctx, req.create)
		case watchCancel:
			err = s.Cancel(ctx, req.cancel)
		case watchProgress:
			err = s.RequestProgress(ctx)
		default: // ignore a message of an unknown kind, as etcd does
		}
		if err != nil {
			return err
		}
	}
}

// send is the only sender of the stream, so responses leave in the order in which the hub returns them.
func (w *watchService) send(ctx context.Context, s *watch.Stream, stream grpc.ServerStream) error {
	out := newTurnSender(w, s, stream)
	for {
		turn, err := s.Next(ctx)
		if err != nil {
			return err
		}
		if err := out.enter(ctx); err != nil {
			return err
		}
		err = out.send(ctx, turn)
		out.leave()
		if err != nil {
			return err
		}
		s.Release(turn)
	}
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
