package compose

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/server"
)

// serviceSet is the services of one keyspace. They register on it as a grpc.ServiceRegistrar.
type serviceSet struct {
	*server.GRPC // counts what is sent past its codec
	ending       context.Context
	descs        []*grpc.ServiceDesc
	services     map[string]service                 // by name
	lazy         map[string]func() (service, error) // services that their first call makes
}

// service is one service. Its description may belong to the implementation, because handlers may be bound to it.
type service struct {
	desc *grpc.ServiceDesc
	impl any
}

func newServiceSet(g *server.GRPC, ending context.Context) *serviceSet {
	return &serviceSet{
		GRPC:     g,
		ending:   ending,
		services: make(map[string]service),
		lazy:     make(map[string]func() (service, error)),
	}
}

// RegisterService implements grpc.ServiceRegistrar.
func (s *serviceSet) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.descs = append(s.descs, desc)
	s.services[desc.ServiceName] = service{desc, impl}
}

// later registers a service that its first call makes. make_ registers it.
func (s *serviceSet) later(desc *grpc.ServiceDesc, make_ func(grpc.ServiceRegistrar) error) {
	s.descs = append(s.descs, desc)
	s.lazy[desc.ServiceName] = sync.OnceValues(func() (service, error) {
		own := newServiceSet(s.GRPC, s.ending)
		err := make_(own)
		return own.services[desc.ServiceName], err
	})
}

// get returns the service of a name. Errors: those of making it.
func (s *serviceSet) get(name string) (service, error) {
	if found, ok := s.services[name]; ok {
		return found, nil
	}
	return s.lazy[name]()
}

// Draining returns a context that ends when streams of these services must end.
func (s *serviceSet) Draining() context.Context { return s.ending }

// dispatch registers on g the services of all keyspaces, which are those of the first. A call goes to the service of
// the keyspace that it is for.
func (s *keyspaces) dispatch(g *server.GRPC) {
	for _, desc := range s.first.services.descs {
		s.dispatchService(g, desc)
	}
}

func (s *keyspaces) dispatchService(g *server.GRPC, desc *grpc.ServiceDesc) {
	d := *desc
	d.HandlerType = (*any)(nil) // the implementation is looked up for each call
	d.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		d.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: s.unary(desc, i)}
	}
	d.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, m := range desc.Streams {
		d.Streams[i] = m
		d.Streams[i].Handler = s.stream(desc, i)
	}
	g.RegisterService(&d, s)
}

// unaryHandler is the type of grpc.MethodDesc.Handler.
type unaryHandler = func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error)

func (s *keyspaces) unary(desc *grpc.ServiceDesc, i int) unaryHandler {
	name, c := desc.ServiceName, callOf(desc.ServiceName, desc.Methods[i].MethodName)
	return func(_ any, ctx context.Context, dec func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
		c, err := c, error(nil)
		if c.login && s.chooser.tokens {
			if ctx, dec, c.named, err = s.byUserName(ctx, dec); err != nil {
				return nil, err
			}
		}
		v, err := s.enter(ctx, c)
		if errors.Is(err, errNoEntry) || c.named && errors.Is(err, errNoKeyspace) {
			err = s.refusal(ctx, c, dec)
		}
		if err != nil {
			return nil, err
		}
		defer v.leave()
		if c.waits {
			defer v.bind(ctx)()
		}
		found, err := v.services().get(name)
		if err != nil {
			return nil, err
		}
		answer, err := found.desc.Methods[i].Handler(found.impl, v.context(ctx), dec, in)
		return answer, v.ended(err)
	}
}

func (s *keyspaces) stream(desc *grpc.ServiceDesc, i int) grpc.StreamHandler {
	name, c := desc.ServiceName, call{service: desc.ServiceName, kind: callStream}
	return func(_ any, stream grpc.ServerStream) error {
		v, err := s.enter(stream.Context(), c)
		if errors.Is(err, errNoEntry) {
			err = s.refusal(stream.Context(), c, nil)
		}
		if err != nil {
			return err
		}
		defer v.leave()
		defer v.bind(stream.Context())()
		found, err := v.services().get(name)
		if err != nil {
			return err
		}
		if ctx := v.context(stream.Context()); ctx != stream.Context() {
			stream = passedStream{stream, ctx}
		}
		return v.ended(found.desc.Streams[i].Handler(found.impl, stream))
	}
}
