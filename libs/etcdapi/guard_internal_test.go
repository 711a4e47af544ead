package etcdapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// TestCertificateNames: the common name of a verified certificate is who a call acts for, if that is switched on, there is
// no token and the call comes over no gateway, whose certificate it would be. Nothing that a client sends makes it
// somebody else.
func TestCertificateNames(t *testing.T) {
	verified := func(name string) context.Context {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: name}}
		info := credentials.TLSInfo{State: tls.ConnectionState{
			PeerCertificates: []*x509.Certificate{c}, VerifiedChains: [][]*x509.Certificate{{c}},
		}}
		return peer.NewContext(t.Context(), &peer.Peer{AuthInfo: info})
	}
	unverified := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "root"}}},
	}}})
	plain := peer.NewContext(t.Context(), &peer.Peer{})
	on, off := NewGuard(nil, GuardOptions{CertUsers: true}), NewGuard(nil, GuardOptions{})
	with := func(ctx context.Context, kv ...string) context.Context {
		return metadata.NewIncomingContext(ctx, metadata.Pairs(kv...))
	}
	for name, c := range map[string]struct {
		g     *Guard
		ctx   context.Context
		who   string
		token bool
	}{
		"verified":                    {g: on, ctx: verified("u"), who: "u"},
		"switched off":                {g: off, ctx: verified("u")},
		"not verified":                {g: on, ctx: unverified},
		"no TLS":                      {g: on, ctx: plain},
		"no connection":               {g: on, ctx: t.Context()},
		"through a gateway":           {g: on, ctx: with(verified("u"), gatewayKey, "*/*")},
		"a token counts first":        {g: on, ctx: with(verified("u"), "token", "t"), token: true},
		"an empty token too":          {g: on, ctx: with(verified("u"), "authorization", ""), token: true},
		"a name of its own":           {g: on, ctx: with(verified("u"), localKey, "root"), who: "u"},
		"a name of its own, no TLS":   {g: on, ctx: with(plain, localKey, "root")},
		"a guessed proof":             {g: on, ctx: with(plain, localKey, "AAAAAAAAAAAAAAAAAAAAAAAAAA root")},
		"the process's own client":    {g: on, ctx: with(plain, localKey, localProof+"u"), who: "u"},
		"the same, switched off":      {g: off, ctx: with(plain, localKey, localProof+"u")},
		"the same, with another name": {g: on, ctx: with(verified("v"), localKey, localProof+"u"), who: "u"},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.g.credentialOf(c.ctx)
			if got.name != c.who || got.hasToken != c.token {
				t.Errorf("%+v", got)
			}
		})
	}
	// What the process's own client sends on behalf of a call is what credentialOf finds.
	out, _ := metadata.FromOutgoingContext(asCaller(verified("u")))
	if got := on.credentialOf(metadata.NewIncomingContext(t.Context(), out)); got.name != "u" {
		t.Errorf("on behalf of u: %+v", got)
	}
	out, _ = metadata.FromOutgoingContext(asCaller(with(plain, localKey, "root", "token", "x")))
	if got := on.credentialOf(metadata.NewIncomingContext(t.Context(), out)); got.name != "" || got.token != "x" {
		t.Errorf("on behalf of a token: %+v", got)
	}
}
