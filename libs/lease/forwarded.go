package lease

import (
	"context"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// ForwardedKey is the metadata key that marks a call from one pod to another. Such a call is never forwarded again.
const ForwardedKey = "headwater-forwarded"

// NotOwnedTTL is the time to live in the answer to a renewal that came marked and is to be asked for again: it is about
// a lease of another pod's, or has to wait where too many do already. On a stream that carries the renewals of many, an
// error would end all of them, and a wait would hold them up. Clients never see it.
const NotOwnedTTL = -1

// Forwarded reports whether ctx is that of a call from another pod.
func Forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, ForwardedKey)) > 0
}

// Forwarding returns ctx for calls to another pod. They act for whom the call of ctx does: its token goes along.
func Forwarding(ctx context.Context) context.Context {
	out := []string{ForwardedKey, "1"}
	for _, key := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		if v := metadata.ValueFromIncomingContext(ctx, key); len(v) > 0 {
			out = append(out, key, v[0])
		}
	}
	return metadata.AppendToOutgoingContext(ctx, out...)
}

// MarkForwarded returns ctx, that of a call from a client, as one that is passed on to another pod with its metadata.
func MarkForwarded(ctx context.Context) context.Context {
	in, _ := metadata.FromIncomingContext(ctx) // a copy
	if in == nil {
		in = metadata.MD{}
	}
	in.Set(ForwardedKey, "1")
	return metadata.NewIncomingContext(ctx, in)
}
