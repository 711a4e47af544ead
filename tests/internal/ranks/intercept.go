package ranks

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DialOptions make a connection speak ranks. Interceptors of later options see revisions.
func (t Translator) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(t.unary), grpc.WithChainStreamInterceptor(t.stream)}
}

// refused is the error for what cannot be translated. No server sends its code.
func refused(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codes.DataLoss, err.Error())
}

func (t Translator) unary(ctx context.Context, path string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	out, err := t.request(path, req)
	if err != nil {
		return refused(err)
	}
	if err := invoke(ctx, path, out, reply, conn, opts...); err != nil {
		return err
	}
	return refused(t.answer(ctx, path, reply))
}

func (t Translator) stream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, path string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, conn, path, opts...)
	if err != nil {
		return nil, err
	}
	return &stream{ClientStream: s, t: t, path: path}, nil
}

type stream struct {
	grpc.ClientStream
	t    Translator
	path string
}

// SendMsg implements grpc.ClientStream.
func (s *stream) SendMsg(m any) error {
	out, err := s.t.request(s.path, m)
	if err != nil {
		return refused(err)
	}
	return s.ClientStream.SendMsg(out)
}

// RecvMsg implements grpc.ClientStream.
func (s *stream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	return refused(s.t.answer(s.Context(), s.path, m))
}
