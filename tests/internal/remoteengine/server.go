package remoteengine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Bounds of one page of a scan.
const (
	pageRows  = 1000
	pageBytes = 1 << 20
)

// Server offers a store to clients.
type Server struct {
	store    engine.Store
	listener net.Listener
	stop     context.CancelFunc
	ctx      context.Context
	wg       sync.WaitGroup
}

// Serve begins to serve a store at a unix socket. The store stays the caller's, who closes it after the Server.
func Serve(store engine.Store, socket string) (*Server, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("remoteengine: %w", err)
	}
	s := &Server{store: store, listener: l}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.wg.Go(s.accept)
	return s, nil
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.serve(conn) })
	}
}

// Close cuts all connections and waits until what clients had open is closed.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.stop()
	s.wg.Wait()
	return err
}

// session is one connection.
type session struct {
	store engine.Store
	conn  net.Conn
	ctx   context.Context

	sending sync.Mutex
	out     *bufio.Writer
	enc     *gob.Encoder

	mu      sync.Mutex
	last    uint64
	readers map[uint64]*opened
	cancels map[uint64]context.CancelFunc
}

// opened is a reader of a client. The server executes its requests one after the other, including those for which the
// client has stopped waiting.
type opened struct {
	mu      sync.Mutex
	r       engine.Reader
	close   func()
	pending engine.Pending // after a commit
}

func (s *Server) serve(conn net.Conn) {
	ctx, cancel := context.WithCancel(s.ctx)
	c := &session{
		store: s.store, conn: conn, ctx: ctx, out: bufio.NewWriter(conn),
		readers: map[uint64]*opened{}, cancels: map[uint64]context.CancelFunc{},
	}
	c.enc = gob.NewEncoder(c.out)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c.receive()
	cancel()
	for _, o := range c.readers {
		o.end()
	}
	conn.Close()
}

// receive runs each request in a goroutine of its own until the connection ends, and waits for them.
func (c *session) receive() {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel() // before the wait
	dec := gob.NewDecoder(bufio.NewReader(c.conn))
	for {
		req := new(request)
		if err := dec.Decode(req); err != nil {
			return
		}
		if req.Op == opCancel {
			c.mu.Lock()
			if stop := c.cancels[req.N]; stop != nil {
				stop()
			}
			c.mu.Unlock()
			continue
		}
		one, stop := context.WithCancel(ctx)
		c.mu.Lock()
		c.cancels[req.N] = stop
		c.mu.Unlock()
		wg.Go(func() {
			c.answer(one, req)
			stop()
		})
	}
}

func (c *session) answer(ctx context.Context, req *request) {
	resp := &response{N: req.N}
	resp.Code, resp.Text = codeOf(c.handle(ctx, req, resp))
	c.mu.Lock()
	delete(c.cancels, req.N)
	c.mu.Unlock()
	if req.Op == opClose {
		return
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	// A client that is gone needs no answer.
	if err := c.enc.Encode(resp); err == nil {
		_ = c.out.Flush()
	}
}

func (c *session) handle(ctx context.Context, req *request, resp *response) error {
	switch req.Op {
	case opLimits:
		resp.Limits = c.store.Limits()
		_, resp.OK = c.store.(engine.RecentBeginner)
		return nil
	case opSnapshot:
		snap, err := c.store.Snapshot(ctx)
		if err == nil {
			c.open(resp, snap, snap.Close)
		}
		return err
	case opBegin:
		t, err := c.store.Begin(ctx)
		if err == nil {
			c.open(resp, t, t.Discard)
		}
		return err
	case opBeginRecent:
		recent, ok := c.store.(engine.RecentBeginner)
		if !ok {
			return nil
		}
		t, ok, err := recent.BeginRecent(ctx)
		if resp.OK = ok && err == nil; resp.OK {
			c.open(resp, t, t.Discard)
		}
		return err
	case opWaitChange:
		old := req.Keys[1]
		if old == nil && !req.Absent {
			old = []byte{}
		}
		return c.store.WaitChange(ctx, req.Keys[0], old)
	}
	return c.ofReader(ctx, req, resp)
}

func (c *session) open(resp *response, r engine.Reader, end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.readers[c.last] = &opened{r: r, close: end}
	resp.Reader, resp.Version = c.last, r.Version()
}

func (c *session) ofReader(ctx context.Context, req *request, resp *response) error {
	c.mu.Lock()
	o := c.readers[req.Reader]
	if req.Op == opClose || req.Op == opWait {
		delete(c.readers, req.Reader)
	}
	c.mu.Unlock()
	if o == nil {
		return errors.New("remoteengine: no such reader")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch req.Op {
	case opClose:
		o.endLocked()
		return nil
	case opGetMany:
		return o.getMany(ctx, req, resp)
	case opScan:
		return o.scan(ctx, req, resp)
	case opCommit:
		return o.commit(ctx, req)
	case opWait:
		p := o.pending
		if o.pending = nil; p == nil {
			return errors.New("remoteengine: no commit is under way")
		}
		var err error
		resp.Stamp, err = p.Wait(ctx)
		return err
	}
	return fmt.Errorf("remoteengine: no such request %d", req.Op)
}

// end closes what a client has left open.
func (o *opened) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.endLocked()
}

func (o *opened) endLocked() {
	if o.pending != nil {
		_, _ = o.pending.Wait(context.Background()) // its client is gone and needs no result
		o.pending = nil
		return
	}
	o.close()
}

func (o *opened) getMany(ctx context.Context, req *request, resp *response) error {
	values, err := o.r.GetMany(ctx, req.Keys)
	if err != nil {
		return err
	}
	for _, v := range values {
		resp.Rows = append(resp.Rows, row{Value: bytes.Clone(v), Absent: v == nil})
	}
	return nil
}

func (o *opened) scan(ctx context.Context, req *request, resp *response) error {
	rng := req.Range
	switch {
	case req.Absent:
		rng.End = nil
	case rng.End == nil:
		rng.End = []byte{}
	}
	if rng.Limit == 0 || rng.Limit > pageRows {
		rng.Limit = pageRows
	}
	it := o.r.Scan(ctx, rng)
	defer it.Close()
	for size := 0; size < pageBytes && it.Next(); size += len(it.Key()) + len(it.Value()) {
		resp.Rows = append(resp.Rows, row{Key: bytes.Clone(it.Key()), Value: bytes.Clone(it.Value())})
		resp.More = true
	}
	return it.Err()
}

func (o *opened) commit(ctx context.Context, req *request) (err error) {
	t, ok := o.r.(engine.Txn)
	if !ok || o.pending != nil {
		return errors.New("remoteengine: not a transaction that can commit")
	}
	for i := range req.Mutations {
		if err := req.Mutations[i].apply(t); err != nil {
			return err
		}
	}
	o.pending, err = t.Commit(ctx)
	return err
}

func (m *mutation) apply(t engine.Txn) error {
	end := m.B
	if end == nil && !m.NilB {
		end = []byte{}
	}
	switch m.Verb {
	case verbSet:
		t.Set(m.A, m.B)
	case verbClear:
		t.Clear(m.A)
	case verbClearRange:
		t.ClearRange(m.A, end)
	case verbStampedKey:
		t.SetStampedKey(m.A, int(m.N), m.B)
	case verbStampedValue:
		t.SetStampedValue(m.A, m.B, int(m.N))
	case verbAdd:
		t.Add(m.A, m.N)
	case verbUseStamps:
		t.UseStamps(int(m.N))
	case verbReadConflict:
		t.AddReadConflict(m.A, end)
	case verbWriteConflict:
		t.AddWriteConflict(m.A, end)
	default:
		return fmt.Errorf("remoteengine: no such mutation %d", m.Verb)
	}
	return nil
}
