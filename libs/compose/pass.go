package compose

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/keyspace"
)

// passed is a call for a keyspace that another pod serves.
type passed struct {
	services *serviceSet     // of relays
	ctx      context.Context // the context of the passed call, which names the keyspace
	end      func()          // called after the call
}

// pass passes a call for one of many keyspaces on to another pod. It returns nil if this pod must serve it. Errors: as
// servesMany, those of leaseHost.pass.
func (s *keyspaces) pass(ctx context.Context, info keyspace.Info, service string) (*passed, error) {
	if err := s.servesMany(ctx, info); err != nil {
		return nil, notEntered(ctx, err)
	}
	if s.d.relays(service) {
		return &passed{s.first.services, withName(ctx, info.Name), func() {}}, nil
	}
	if s.joint.leases != nil && service == pb.Lease_ServiceDesc.ServiceName {
		return s.joint.leases.pass(ctx, info)
	}
	return nil, nil
}

// withName returns the context of a call to this process, with metadata that names a keyspace.
func withName(ctx context.Context, name string) context.Context {
	if v := metadata.ValueFromIncomingContext(ctx, KeyspaceMetadata); len(v) == 1 && v[0] == name {
		return ctx
	}
	in, _ := metadata.FromIncomingContext(ctx) // a copy
	if in == nil {
		in = metadata.MD{}
	}
	in.Set(KeyspaceMetadata, name)
	return metadata.NewIncomingContext(ctx, in)
}

// passedStream is a stream with another context.
type passedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (s passedStream) Context() context.Context { return s.ctx }

// Unwrapped is the stream itself, for those who send past its codec (wire.NewMessageWriter).
func (s passedStream) Unwrapped() grpc.ServerStream { return s.ServerStream }

// naming registers services whose calls name a keyspace.
type naming struct {
	grpc.ServiceRegistrar
	name func() string
}

// RegisterService implements grpc.ServiceRegistrar.
func (n naming) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		d.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: func(
			srv any, ctx context.Context, dec func(any) error, in grpc.UnaryServerInterceptor,
		) (any, error) {
			return m.Handler(srv, withName(ctx, n.name()), dec, in)
		}}
	}
	d.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, m := range desc.Streams {
		d.Streams[i] = m
		d.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error {
			return m.Handler(srv, passedStream{stream, withName(stream.Context(), n.name())})
		}
	}
	n.ServiceRegistrar.RegisterService(&d, impl)
}
