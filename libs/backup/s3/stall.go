package s3

import (
	"context"
	"net"
	"net/http"
	"time"
)

// stallTimeout bounds the time in which a connection moves no byte. The client's own limits end with the head of an
// answer: a service that stops in the middle of an object would keep a backup waiting for ever.
const stallTimeout = 2 * time.Minute

// endStalls has the connections of a transport fail that move no byte for so long.
func endStalls(t *http.Transport, limit time.Duration) {
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &stallConn{c, limit}, nil
	}
}

// stallConn is a connection that fails when it moves no byte for limit. While one side sends, the other may be silent.
type stallConn struct {
	net.Conn
	limit time.Duration
}

// Read implements net.Conn.
func (c *stallConn) Read(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c *stallConn) Write(b []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
