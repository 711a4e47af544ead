package server

import (
	"context"
	"net"

	"google.golang.org/grpc/mem"

	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// layer is what lies between the socket and what its connections speak. The zero value is nothing.
type layer struct {
	tls    *tlsconf.TLS // nil: nothing
	plain  bool         // with tls: connections that do not begin a handshake are served without
	speaks tlsconf.Protocol
}

// layer is that of l.
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

// open makes the handshake with c, if there is one, and looks at the first bytes of what comes then.
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
	// The deadline is c's.
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

// frugalBytes is what a connection of HTTP/2 with TLS holds for reading while it is idle.
const frugalBytes = 4 << 10

// frugal is a connection that grpc-go reads from without a buffer of its own while nothing comes: it asks connections
// for ReadOnReady, and where there is none keeps a read buffer of full size for each connection, which are most of an
// idle watcher's memory. (Whether a tls.Conn has something to read cannot be asked.)
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

// NetConn is the connection inside, as tlsconf.InfoOf asks for it.
func (f *frugal) NetConn() net.Conn { return f.Conn }
