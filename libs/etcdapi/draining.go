package etcdapi

import (
	"context"

	"google.golang.org/grpc"
)

// drainer is what a server (server.GRPC) offers beside grpc.ServiceRegistrar.
type drainer interface {
	// Draining is a context that ends when streams that do not end by themselves are to end, with Unavailable.
	Draining() context.Context
}

// draining is the context that tells streams of services on r to end; one that never ends if r has none.
func draining(r grpc.ServiceRegistrar) context.Context {
	if d, ok := r.(drainer); ok {
		return d.Draining()
	}
	return context.Background()
}
