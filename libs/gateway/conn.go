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

// Factors for the memory that an answer takes until its client has received it: decoded, and in JSON.
const (
	// answerFactor is the memory of an answer with long fields, as a multiple of its size in protobuf. entryBytes is
	// what each key-value pair takes in addition.
	answerFactor = 4
	entryBytes   = 512
	// smallFactor is the same for an answer whose fields may all be short.
	smallFactor = 16
	// answerFree is the size in protobuf up to which an answer is not counted. A request takes about as much anyway.
	answerFree = 4 << 10
)

// errNoRequest answers a stream whose client can no longer send a request on it. (etcd does not answer then.)
var errNoRequest = status.Error(codes.InvalidArgument, "headwater: no request could be read from the body")

// call is a request under way. It belongs to its handler; body does not.
type call struct {
	body    *body
	answers *fair.Holding // of its tenant
	held    int64         // bytes of the answer that is on its way to the client
}

// callKey finds the call in a request's context.
type callKey struct{}

// hold counts an answer instead of the previous one. Errors: ResourceExhausted.
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

// cost returns how many bytes an answer takes until its client has received it.
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

// stream is a call that is a stream. One goroutine may send while another receives.
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

// ended returns the error of a stream that has ended with err. If an unreadable request has ended it, that is the
// error.
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
