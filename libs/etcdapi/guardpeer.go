package etcdapi

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// peerKey is the metadata with which processes of the deployment identify themselves to one another. Nobody can make
// its value without reading the keyspace's rows.
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

// isPeer says whether a call comes from another process of the deployment, which has checked its clients.
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
