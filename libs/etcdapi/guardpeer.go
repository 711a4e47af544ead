package etcdapi

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// peerKey is the metadata by which a process of the deployment is known to another. Who cannot read the keyspace's rows
// cannot make what is in it.
const peerKey = "headwater-peer-token"

// AsPeer returns ctx for calls to another process of the deployment that are made for many clients at once, of which
// each has been asked for here: keep-alives that share a stream. restricted says that not everybody may enter the
// keyspace; otherwise nothing is said while authentication is disabled. Errors: of making a secret to sign with.
func (g *Guard) AsPeer(ctx context.Context, restricted bool) (context.Context, error) {
	k, err := g.current(ctx)
	if err != nil || !k.Enabled() && !restricted {
		return ctx, err
	}
	if k, err = g.signing(ctx, k); err != nil {
		return ctx, err
	}
	token, err := g.tokens.SignPeer(k.State, g.now())
	if err != nil {
		return ctx, err
	}
	return metadata.AppendToOutgoingContext(ctx, peerKey, token), nil
}

// isPeer says that a call comes from another process of the deployment, which has asked for its clients.
func (g *Guard) isPeer(ctx context.Context, k *known) bool {
	v := metadata.ValueFromIncomingContext(ctx, peerKey)
	if len(v) != 1 {
		return false
	}
	id, newer, err := g.tokens.Parse(k.State, v[0], g.now())
	if newer && g.o.Shared {
		if k, err = g.load(ctx, k); err != nil {
			return false
		}
		id, _, err = g.tokens.Parse(k.State, v[0], g.now())
	}
	return err == nil && id.Peer
}
