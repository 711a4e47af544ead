package lease

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// ForwardedKey is the metadata key that marks a call from one pod to another. Such a call is never forwarded again.
const ForwardedKey = "headwater-forwarded"

// NotOwnedTTL is the time to live in the answer to a renewal that Shards has forwarded and must try again: another pod
// has the lease, or too many renewals are waiting here. Such a stream carries the renewals of many clients. An error
// would end all of them, and a wait would delay them. Clients never see this value: they would take it for the end of
// the lease. So it is not sent on a client's own stream, which a pod passes on as it is (MarkForwarded).
const NotOwnedTTL = -1

// Forwarded reports whether ctx belongs to a call from another pod.
func Forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, ForwardedKey)) > 0
}

// Forwarding returns ctx for calls to another pod. They act for the caller of ctx: its token is sent along.
func Forwarding(ctx context.Context) context.Context {
	out := []string{ForwardedKey, "1"}
	for _, key := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			out = append(out, key, v[0])
		}
	}
	return metadata.AppendToOutgoingContext(ctx, out...)
}

// MarkForwarded returns the ctx of a client's call for passing the call on to another pod with its metadata.
func MarkForwarded(ctx context.Context) context.Context {
	in, _ := metadata.FromIncomingContext(ctx) // a copy
	if in == nil {
		in = metadata.MD{}
	}
	in.Set(ForwardedKey, "1")
	return metadata.NewIncomingContext(ctx, in)
}
