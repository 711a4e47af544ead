package tlsconf

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Identity is who a client is, according to a certificate that has passed the checks of the listener where the client's
// connection ends. Values are those of the certificate. They are compared byte by byte, except DNS names.
type Identity struct {
	CommonName    string   `json:"cn,omitempty"`
	Organizations []string `json:"o,omitempty"`
	// Subject alternative names.
	DNSNames []string `json:"dns,omitempty"`
	URIs     []string `json:"uri,omitempty"`
	Emails   []string `json:"email,omitempty"`
	IPs      []string `json:"ip,omitempty"`
}

// identityOf returns the identity in a certificate.
func identityOf(c *x509.Certificate) Identity {
	id := Identity{
		CommonName: c.Subject.CommonName, Organizations: c.Subject.Organization,
		DNSNames: c.DNSNames, Emails: c.EmailAddresses,
	}
	for _, u := range c.URIs {
		id.URIs = append(id.URIs, u.String())
	}
	for _, ip := range c.IPAddresses {
		id.IPs = append(id.IPs, ip.String())
	}
	return id
}

// FromContext returns who has made the call of ctx, the context of a gRPC handler. false: that is not known, because
// there was no certificate, or because the call was passed on by somebody who may not state it. It may be called by
// anybody at any time, and costs about a look-up in a map.
func FromContext(ctx context.Context) (Identity, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Identity{}, false
	}
	said := metadata.ValueFromIncomingContext(ctx, ClientMetadata)
	if web, ok := p.AuthInfo.(credentials.TLSInfo); ok { // the gateway sets it for a client of HTTP
		if len(web.State.VerifiedChains) == 0 || len(said) > 0 {
			return Identity{}, false
		}
		return identityOf(web.State.PeerCertificates[0]), true
	}
	info, ok := p.AuthInfo.(*AuthInfo)
	switch {
	case !ok:
		return Identity{}, false
	case info.trusted && len(said) == 1:
		return heard.read(said[0])
	case info.trusted, info.peer, len(said) > 0:
		return Identity{}, false
	}
	return info.identity, info.known
}

// ServerName returns the host name that the client of ctx's call has sent in its handshake (SNI). It is "" without TLS
// and for clients that send none.
func ServerName(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	switch info := p.AuthInfo.(type) {
	case *AuthInfo:
		return info.State.ServerName
	case credentials.TLSInfo: // the gateway sets it
		return info.State.ServerName
	}
	return ""
}

// ClientMetadata is the metadata in which a pod, or a router that ends TLS, states who the client of a call is. A
// router must set it in every call, and so replace what the client may have sent. Its value is the client's
// certificate, as RFC 9440 writes it (":base64 of DER:") or in PEM with URL escapes ($ssl_client_escaped_cert of nginx,
// %DOWNSTREAM_PEER_CERT% of Envoy). Pods write only the names.
const ClientMetadata = "headwater-client-cert"

// Forms of ClientMetadata beside certificates.
const (
	saidNobody = "-"
	saidNames  = "names="
)

// say returns the value of ClientMetadata for a call that is passed on for the client of ctx.
func say(ctx context.Context) string {
	id, ok := FromContext(ctx)
	if !ok {
		return saidNobody
	}
	b, err := json.Marshal(id)
	if err != nil { // impossible: there are only strings
		return saidNobody
	}
	return saidNames + base64.StdEncoding.EncodeToString(b)
}

// hear reads a value of ClientMetadata.
func hear(v string) (Identity, bool) {
	if names, ok := strings.CutPrefix(v, saidNames); ok {
		b, err := base64.StdEncoding.DecodeString(names)
		var id Identity
		if err != nil || json.Unmarshal(b, &id) != nil {
			return Identity{}, false
		}
		return id, true
	}
	der := derOf(v)
	if der == nil {
		return Identity{}, false
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Identity{}, false
	}
	return identityOf(c), true
}

// derOf returns the certificate in one of the two forms that routers write; nil: there is none.
func derOf(v string) []byte {
	if len(v) > 2 && v[0] == ':' && v[len(v)-1] == ':' {
		der, err := base64.StdEncoding.DecodeString(v[1 : len(v)-1])
		if err != nil {
			return nil
		}
		return der
	}
	text, err := url.PathUnescape(v)
	if err != nil {
		return nil
	}
	if b, _ := pem.Decode([]byte(text)); b != nil && b.Type == "CERTIFICATE" {
		return b.Bytes
	}
	return nil
}

// hearingMax bounds the number of values that are remembered.
const hearingMax = 1024

// hearing remembers what values of ClientMetadata mean, because all calls of one client carry the same value.
type hearing struct {
	mu   sync.Mutex
	said map[string]meaning
}

type meaning struct {
	id Identity
	ok bool
}

var heard hearing

func (h *hearing) read(v string) (Identity, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.said[v]
	if !ok {
		m.id, m.ok = hear(v)
		if len(h.said) >= hearingMax || h.said == nil {
			h.said = make(map[string]meaning)
		}
		h.said[v] = m
	}
	return m.id, m.ok
}

// PassOn returns options for a connection on which calls of clients are passed on. Every call names the client of its
// context, instead of what the client itself may have sent. Without secure no name is sent. The other side then knows
// that this process's certificate is not the client's.
func PassOn(secure bool) []grpc.DialOption {
	name := func(ctx context.Context) context.Context {
		said := saidNobody
		if secure {
			said = say(ctx)
		}
		out, _ := metadata.FromOutgoingContext(ctx)
		out = out.Copy()
		if out == nil {
			out = metadata.MD{}
		}
		out[ClientMetadata] = []string{said}
		return metadata.NewOutgoingContext(ctx, out)
	}
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
			invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			return invoke(name(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn,
			method string, stream grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return stream(name(ctx), desc, cc, method, opts...)
		}),
	}
}
