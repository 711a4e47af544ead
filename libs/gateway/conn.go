package gateway

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/fair"
)

// What an answer takes in memory until its client has it: decoded, and in JSON.
const (
	// answerFactor is how many times its size in protobuf an answer takes whose fields are long, entryBytes what each
	// key-value pair takes besides.
	answerFactor = 4
	entryBytes   = 512
	// smallFactor is how many times its size an answer takes whose fields may all be short.
	smallFactor = 16
	// answerFree is up to which size in protobuf an answer is not counted: about what a request takes anyway.
	answerFree = 4 << 10
)

// errNoRequest answers a stream whose client can no longer ask for anything on it. (etcd leaves it without an answer.)
var errNoRequest = status.Error(codes.InvalidArgument, "headwater: no request could be read from the body")

// call is a request under way. It belongs to its handler, but for body.
type call struct {
	body    *body
	answers *fair.Holding // of its tenant
	held    int64         // bytes of the answer that is on its way to the client
}

// callKey finds the call in a request's context.
type callKey struct{}

// hold counts an answer in the place of the one before. Errors: ResourceExhausted.
func (c *call) hold(answer any) error {
	c.release()
	n := cost(answer)
	if n > 0 && !c.answers.Take(n) {
		return rpctypes.ErrGRPCRequestTooManyRequests
	}
	c.held = n
	return nil
}

func (c *call) release() {
	c.answers.Give(c.held)
	c.held = 0
}

func (c *call) end() {
	c.release()
	c.body.end()
}

// cost is how many bytes an answer takes until its client has it.
func cost(answer any) int64 {
	m, ok := answer.(proto.Message)
	if !ok {
		return 0
	}
	n := int64(proto.Size(m))
	if n <= answerFree {
		return 0
	}
	switch a := answer.(type) {
	case *pb.RangeResponse:
		return n*answerFactor + int64(len(a.Kvs))*entryBytes
	case *pb.WatchResponse:
		return n*answerFactor + int64(len(a.Events))*entryBytes
	case *pb.SnapshotResponse:
		return n * answerFactor
	}
	return n * smallFactor
}

// conn is the connection to the services, with the limits of requests around each call.
type conn struct{ grpc.ClientConnInterface }

// Invoke implements grpc.ClientConnInterface.
func (c conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	request := ctx.Value(callKey{}).(*call)
	request.body.taken()
	if err := c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...); err != nil {
		return err
	}
	return request.hold(reply)
}

// NewStream implements grpc.ClientConnInterface.
func (c conn) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	s, err := c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil {
		cancel(err)
		return nil, err
	}
	return &stream{ClientStream: s, call: ctx.Value(callKey{}).(*call), ctx: ctx, cancel: cancel}, nil
}

// stream is a call that is a stream. Sending and receiving may go on at once.
type stream struct {
	grpc.ClientStream
	call   *call
	ctx    context.Context
	cancel context.CancelCauseFunc
	asked  bool // something has been sent
}

// SendMsg implements grpc.ClientStream.
func (s *stream) SendMsg(m any) error {
	s.call.body.taken()
	s.asked = true
	return s.ClientStream.SendMsg(m)
}

// CloseSend implements grpc.ClientStream. It ends a stream on which nothing has been sent.
func (s *stream) CloseSend() error {
	if !s.asked {
		s.cancel(errNoRequest)
	}
	return s.ClientStream.CloseSend()
}

// Header implements grpc.ClientStream.
func (s *stream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	return md, s.ended(err)
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	s.call.release()
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return s.ended(err)
	}
	return s.call.hold(m)
}

// ended is the error of a stream that has ended with err: where a request that could not be read is what has ended it,
// that.
func (s *stream) ended(err error) error {
	if err == nil {
		return nil
	}
	if failure := s.call.body.failed(); failure != nil {
		return status.Error(codes.InvalidArgument, failure.Error())
	}
	if errors.Is(context.Cause(s.ctx), errNoRequest) {
		return errNoRequest
	}
	return err
}
