package etcdapi

import (
	"context"
	"testing"

	"google.golang.org/grpc/metadata"
)

// TestCertificateNames: the common name of a verified certificate is who a call acts for, if that is switched on,
// there is no token and the call comes over no gateway, whose certificate it would be.
func TestCertificateNames(t *testing.T) {
	on := NewGuard(nil, GuardOptions{CertName: func(context.Context) (string, bool) { return "u", true }})
	off := NewGuard(nil, GuardOptions{})
	with := func(kv ...string) context.Context {
		return metadata.NewIncomingContext(t.Context(), metadata.Pairs(kv...))
	}
	for name, c := range map[string]struct {
		g    *Guard
		ctx  context.Context
		want credential
	}{
		"verified":             {on, t.Context(), credential{name: "u", hasCert: true}},
		"switched off":         {off, t.Context(), credential{}},
		"through a gateway":    {on, with(gatewayKey, "*/*"), credential{}},
		"a token counts first": {on, with("token", "t"), credential{token: "t", hasToken: true}},
		"an empty token too":   {on, with("authorization", ""), credential{hasToken: true}},
		"of two tokens etcd's": {on, with("authorization", "Bearer a", "token", "Bearer b"), credential{token: "b", hasToken: true}},
		"a token by a gateway": {on, with(gatewayKey, "*/*", "authorization", "a"), credential{token: "a", hasToken: true}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.g.credentialOf(c.ctx); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
	// What the process's own client sends on behalf of a call is its token, and nothing else that the client has sent.
	out, _ := metadata.FromOutgoingContext(asCaller(with("token", "x", peerKey, "y", "headwater-forwarded", "1")))
	if len(out) != 1 || out.Get("token")[0] != "x" {
		t.Error(out)
	}
}
