package remoteengine

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Client is the engine of a server. Close it after everything that was opened through it.
type Client struct {
	conn   net.Conn
	limits engine.Limits
	ended  chan struct{} // closed when the connection is gone

	sending sync.Mutex
	out     *bufio.Writer
	enc     *gob.Encoder

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *response // nil: the connection is gone
	closed  bool
}

// recentClient is a Client of an engine that is an engine.RecentBeginner.
type recentClient struct{ *Client }

var _ engine.RecentBeginner = recentClient{}

// Dial connects to the server at a unix socket. The store is an engine.RecentBeginner if the server's is.
func Dial(ctx context.Context, socket string) (engine.Store, error) {
	c, recent, err := dial(ctx, socket)
	switch {
	case err != nil:
		return nil, err
	case recent:
		return recentClient{c}, nil
	}
	return c, nil
}

func dial(ctx context.Context, socket string) (_ *Client, recent bool, _ error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, false, fmt.Errorf("remoteengine: %w", err)
	}
	c := &Client{
		conn: conn, ended: make(chan struct{}), out: bufio.NewWriter(conn), waiting: map[uint64]chan *response{},
	}
	c.enc = gob.NewEncoder(c.out)
	go c.receive()
	resp, err := c.call(ctx, &request{Op: opLimits})
	if err != nil {
		return nil, false, errors.Join(err, c.Close())
	}
	c.limits = resp.Limits
	return c, resp.OK, nil
}

// receive hands out answers until the connection ends.
func (c *Client) receive() {
	defer close(c.ended)
	dec := gob.NewDecoder(bufio.NewReader(c.conn))
	for {
		resp := new(response)
		if err := dec.Decode(resp); err != nil {
			break
		}
		c.mu.Lock()
		ch := c.waiting[resp.N]
		delete(c.waiting, resp.N)
		c.mu.Unlock()
		if ch != nil {
			ch <- resp // it does not block, because the channel has room for one
		}
	}
	c.mu.Lock()
	c.waiting = nil
	c.mu.Unlock()
}

// gone returns the error of calls without a connection.
func (c *Client) gone() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return engine.ErrClosed
	}
	return fmt.Errorf("%w: the server of the test's engine has gone", engine.ErrUnavailable)
}

// call sends a request and waits for the answer.
func (c *Client) call(ctx context.Context, req *request) (*response, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ch := make(chan *response, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return nil, c.gone()
	}
	c.last++
	req.N = c.last
	c.waiting[req.N] = ch
	c.mu.Unlock()
	if err := c.send(req); err != nil {
		return nil, c.gone()
	}
	select {
	case resp := <-ch:
		return resp, resp.err()
	case <-c.ended:
		return nil, c.gone()
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, req.N)
		c.mu.Unlock()
		if err := c.send(&request{N: req.N, Op: opCancel}); err != nil {
			return nil, c.gone()
		}
		return nil, ctx.Err()
	}
}

func (c *Client) send(req *request) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.enc.Encode(req); err != nil {
		return err
	}
	return c.out.Flush()
}

// Snapshot implements engine.Store.
func (c *Client) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	resp, err := c.call(ctx, &request{Op: opSnapshot})
	if err != nil {
		return nil, err
	}
	return &reader{c: c, id: resp.Reader, version: resp.Version}, nil
}

// Begin implements engine.Store.
func (c *Client) Begin(ctx context.Context) (engine.Txn, error) {
	resp, err := c.call(ctx, &request{Op: opBegin})
	if err != nil {
		return nil, err
	}
	return &txn{reader: reader{c: c, id: resp.Reader, version: resp.Version}}, nil
}

// BeginRecent implements engine.RecentBeginner.
func (c recentClient) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	resp, err := c.call(ctx, &request{Op: opBeginRecent})
	if err != nil || !resp.OK {
		return nil, false, err
	}
	return &txn{reader: reader{c: c.Client, id: resp.Reader, version: resp.Version}}, true, nil
}

// WaitChange implements engine.Store.
func (c *Client) WaitChange(ctx context.Context, key, old []byte) error {
	_, err := c.call(ctx, &request{Op: opWaitChange, Keys: [][]byte{key, old}, Absent: old == nil})
	return err
}

// Limits implements engine.Store.
func (c *Client) Limits() engine.Limits { return c.limits }

// Close ends the connection. The server's store stays open.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.conn.Close()
	<-c.ended
	return err
}
