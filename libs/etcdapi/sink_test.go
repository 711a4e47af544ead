package etcdapi

import (
	"context"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// sink is the server's end of a RangeStream.
type sink struct {
	grpc.ServerStream
	req  mvcc.RangeRequest
	sent []encoded
}

func (s *sink) Context() context.Context { return context.Background() }

func (s *sink) RecvMsg(m any) error {
	m.(*rangeRequest).RangeRequest = s.req
	return nil
}

func (s *sink) SendMsg(m any) error {
	s.sent = append(s.sent, m.(encoded))
	return nil
}
