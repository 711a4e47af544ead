package tlsconf

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// AuthInfo is what a handshake has found out about the other side. It is immutable.
type AuthInfo struct {
	credentials.CommonAuthInfo
	State    tls.ConnectionState
	identity Identity
	known    bool // there is a certificate, and it has passed the checks
	peer     bool // from a listener for peers: the certificate is not a client's
	trusted  bool // the other side may state who its clients are
}

// AuthType implements credentials.AuthInfo.
func (*AuthInfo) AuthType() string { return "tls" }

// Conn is a server's connection after its handshake.
type Conn struct {
	*tls.Conn
	info *AuthInfo
}

// InfoOf returns what the handshake of c has found out, or of a connection that c wraps (NetConn); nil: there was no
// handshake.
func InfoOf(c net.Conn) *AuthInfo {
	for c != nil {
		if t, ok := c.(*Conn); ok {
			return t.info
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = w.NetConn()
	}
	return nil
}

// ServerCredentials returns credentials for a gRPC server whose connections have had their handshake (Handshake), or
// need none.
func ServerCredentials() credentials.TransportCredentials {
	return serverCredentials{insecure.NewCredentials()}
}

// serverCredentials are credentials without TLS that keep the AuthInfo of connections that have one.
type serverCredentials struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (s serverCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if info := InfoOf(c); info != nil {
		return c, info, nil
	}
	return s.TransportCredentials.ServerHandshake(c)
}

// Clone implements credentials.TransportCredentials.
func (s serverCredentials) Clone() credentials.TransportCredentials {
	return serverCredentials{s.TransportCredentials.Clone()}
}

// InProcess returns credentials of a gRPC server that only this process can reach, over memory. The server believes
// what calls say about clients (PassOn).
func InProcess() credentials.TransportCredentials { return inProcess{insecure.NewCredentials()} }

type inProcess struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (inProcess) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, &AuthInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity},
		peer:           true, trusted: true,
	}, nil
}

// Clone implements credentials.TransportCredentials.
func (p inProcess) Clone() credentials.TransportCredentials {
	return inProcess{p.TransportCredentials.Clone()}
}

// ClientCredentials returns credentials for connections to servers whose certificates t's authorities have signed. They
// show t's certificate for clients. They may be used for many connections, and each handshake uses the files as they
// are then.
func (t *TLS) ClientCredentials() credentials.TransportCredentials { return clientCredentials{t} }

type clientCredentials struct{ t *TLS }

var errClientOnly = errors.New("tlsconf: these credentials are for clients only")

// ClientHandshake implements credentials.TransportCredentials.
func (c clientCredentials) ClientHandshake(
	ctx context.Context, authority string, raw net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(c.t.fresh().client).ClientHandshake(ctx, authority, raw)
}

// ServerHandshake implements credentials.TransportCredentials.
func (clientCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errClientOnly
}

// Info implements credentials.TransportCredentials.
func (clientCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (c clientCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials. It does nothing, because names come from the
// endpoints.
func (clientCredentials) OverrideServerName(string) error { return nil }
