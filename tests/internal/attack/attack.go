package attack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// dialers bounds how many connections are being opened at a time.
const dialers = 64

// Preface is what a client of HTTP/2 sends first. Settings is an empty SETTINGS frame, which it sends next.
const (
	Preface  = http2.ClientPreface
	Settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
)

// Conns are open connections.
type Conns []net.Conn

// Close closes all.
func (cs Conns) Close() {
	for _, c := range cs {
		if c != nil {
			_ = c.Close()
		}
	}
}

// Say opens n connections to addr, in order as far as dialers allow, and sends text, which may be empty, on each.
func Say(ctx context.Context, addr string, n int, text string) (Conns, error) {
	cs := make(Conns, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, dialers)
	for i := range cs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			var d net.Dialer
			if cs[i], errs[i] = d.DialContext(ctx, "tcp", addr); errs[i] == nil && text != "" {
				_, errs[i] = io.WriteString(cs[i], text)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		cs.Close()
		return nil, err
	}
	return cs, nil
}

// Closed waits until the other side has closed c.
func Closed(c net.Conn, patience time.Duration) error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	return nil // the other side has closed or reset the connection
}

// Dial opens a connection of HTTP/2 without TLS for calls. The caller closes it.
func Dial(ctx context.Context, addr string) (*http.ClientConn, error) {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t.NewClientConn(ctx, "http", addr)
}

// Body is the body of a gRPC request of Bytes bytes. It sends all but the last byte, at most Chunk bytes every Pause,
// and then never ends.
type Body struct {
	Bytes int
	Chunk int           // 0: no bound
	Pause time.Duration // between two chunks
	// Whole is the message to send instead, to its end.
	Whole []byte

	ctx  context.Context
	sent int
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if b.Whole != nil {
		b.Bytes = len(b.Whole)
	}
	total := 5 + b.Bytes
	switch {
	case b.sent == total:
		return 0, io.EOF
	case b.Whole == nil && b.sent == total-1:
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	if b.Pause > 0 && b.sent > 0 {
		select {
		case <-time.After(b.Pause):
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		}
	}
	if b.Chunk > 0 && len(p) > b.Chunk {
		p = p[:b.Chunk]
	}
	if b.sent < 5 {
		head := binary.BigEndian.AppendUint32([]byte{0}, uint32(b.Bytes))
		n := copy(p, head[b.sent:])
		b.sent += n
		return n, nil
	}
	left := total - b.sent
	if b.Whole == nil {
		left--
	}
	p = p[:min(len(p), left)]
	if b.Whole != nil {
		copy(p, b.Whole[b.sent-5:])
	} else {
		clear(p)
	}
	b.sent += len(p)
	return len(p), nil
}

// Close implements io.Closer.
func (b *Body) Close() error { return nil }

// Call sends b over c to a gRPC method ("/etcdserverpb.KV/Put") and returns the grpc-status of the answer: a number in
// decimal.
func Call(ctx context.Context, c *http.ClientConn, method string, b *Body) (status string, err error) {
	b.ctx = ctx
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+method, b)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := c.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if s := resp.Header.Get("Grpc-Status"); s != "" {
		return s, nil
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	if s := resp.Trailer.Get("Grpc-Status"); s != "" {
		return s, nil
	}
	return "", fmt.Errorf("no grpc-status: %s", resp.Status)
}
