package etcdapi

import (
	"context"

	"google.golang.org/grpc"
)

// drainer is an additional interface of a server (server.GRPC) beside grpc.ServiceRegistrar.
type drainer interface {
	// Draining returns a context that ends when streams that do not end by themselves must end with Unavailable.
	Draining() context.Context
}

// draining returns the context that tells streams of services on r to end. If r has none, it never ends.
func draining(r grpc.ServiceRegistrar) context.Context {
	if d, ok := r.(drainer); ok {
		return d.Draining()
	}
	return context.Background()
}
