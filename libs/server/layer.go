package server

import (
	"context"
	"net"

	"google.golang.org/grpc/mem"

	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// layer is what lies between a socket and the protocol of its connections. The zero value is nothing.
type layer struct {
	tls    *tlsconf.TLS // nil: nothing
	plain  bool         // with tls: connections that do not begin a handshake are served without
	speaks tlsconf.Protocol
}

// layer returns the layer of l.
func (l *listener) layer() layer {
	speaks := tlsconf.HTTP1AndHTTP2
	switch l.role {
	case roleGRPC, rolePeer:
		speaks = tlsconf.HTTP2
	case roleHTTP, roleMetrics:
		speaks = tlsconf.HTTP1
	case roleBoth:
	}
	return layer{tls: l.tls, plain: l.plain, speaks: speaks}
}

// open makes the TLS handshake on c, if there is TLS, and looks at the first bytes after it.
func (l layer) open(c net.Conn) (net.Conn, verdict, error) {
	if l.tls == nil {
		return sniff(c)
	}
	if l.plain {
		to, v, err := sniff(c)
		if err != nil || v != isTLS {
			return to, v, err
		}
		c = to
	}
	// The deadline is that of c.
	secured, err := l.tls.Handshake(context.Background(), c, l.speaks)
	if err != nil {
		return c, undecided, err
	}
	to, v, err := sniff(secured)
	if v == isHTTP2 {
		to = &frugal{Conn: to}
	}
	return to, v, err
}

// frugalBytes is the size of the read buffer that an idle HTTP/2 connection with TLS holds.
const frugalBytes = 4 << 10

// frugal is a connection for which grpc-go holds no read buffer of its own while nothing arrives. grpc-go asks
// connections for ReadOnReady. Without it, it keeps a read buffer of full size per connection, which is most of the
// memory of an idle watcher. (A tls.Conn cannot say whether there is something to read.)
type frugal struct {
	net.Conn
	first [frugalBytes]byte
}

// ReadOnReady waits for data, and returns it in a buffer of pool.
func (f *frugal) ReadOnReady(bufSize int, pool mem.BufferPool) (*[]byte, int, error) {
	n, err := f.Conn.Read(f.first[:min(bufSize, frugalBytes)])
	if err != nil && n == 0 {
		return nil, 0, err
	}
	b := pool.Get(bufSize)
	return b, copy(*b, f.first[:n]), nil // an error comes again
}

// NetConn returns the inner connection. tlsconf.InfoOf calls it.
func (f *frugal) NetConn() net.Conn { return f.Conn }
