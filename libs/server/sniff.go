package server

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// sniffTimeout is how long a connection may take to say by its first bytes what it speaks.
	sniffTimeout = 10 * time.Second
	// sniffingMax bounds the connections that have not said it yet; further ones wait in the system's backlog.
	sniffingMax = 4096
	// acceptRetryMax bounds the pause after a failed Accept (too many open files).
	acceptRetryMax = time.Second
)

// prefaceHead is the start of the HTTP/2 client preface (RFC 9113, 3.4). No HTTP/1 request line begins with it.
var prefaceHead = []byte("PRI * HTTP/2.0")

// verdict is what the first bytes of a connection say.
type verdict int

const (
	undecided verdict = iota
	isHTTP1
	isHTTP2
)

// judge looks at the first bytes of a connection, as many as have come.
func judge(head []byte) verdict {
	n := min(len(head), len(prefaceHead))
	switch {
	case !bytes.Equal(head[:n], prefaceHead[:n]):
		return isHTTP1
	case n == len(prefaceHead):
		return isHTTP2
	}
	return undecided
}

// splitter shares one listener between an HTTP/2 and an HTTP/1 server.
type splitter struct {
	root         net.Listener
	http1, http2 *handoff
	log          *slog.Logger
	sniffing     chan struct{} // slots
	wg           sync.WaitGroup
}

func newSplitter(root net.Listener, log *slog.Logger) *splitter {
	return &splitter{
		root:     root,
		http1:    newHandoff(root.Addr()),
		http2:    newHandoff(root.Addr()),
		log:      log,
		sniffing: make(chan struct{}, sniffingMax),
	}
}

// serve accepts until the root listener is closed; then it closes both sides and waits for connections being sniffed.
func (s *splitter) serve() error {
	defer func() {
		s.http1.Close()
		s.http2.Close()
		s.wg.Wait()
	}()
	var pause time.Duration
	for {
		c, err := s.root.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			pause = min(max(2*pause, 5*time.Millisecond), acceptRetryMax)
			s.log.Warn("accepting a client connection failed", "error", err, "retry-in", pause.String())
			time.Sleep(pause)
			continue
		}
		pause = 0
		s.sniffing <- struct{}{}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer func() { <-s.sniffing }()
			s.sort(c)
		}()
	}
}

// sort waits for the first bytes of c and hands it to its server.
func (s *splitter) sort(c net.Conn) {
	_ = c.SetReadDeadline(time.Now().Add(sniffTimeout)) // a failure shows in the read
	c, v, err := sniff(c)
	if err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	to := s.http1
	if v == isHTTP2 {
		to = s.http2
	}
	to.give(c)
}

// sniffByReading reads until judge has decided and returns a connection that gives those bytes again.
func sniffByReading(c net.Conn) (net.Conn, verdict, error) {
	head := make([]byte, 0, len(prefaceHead))
	for {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		if v := judge(head); v != undecided && len(head) > 0 {
			return &replayed{Conn: c, head: head}, v, nil
		}
		if err != nil {
			return c, undecided, err
		}
	}
}

// replayed is a connection whose first bytes have been read already.
type replayed struct {
	net.Conn
	head []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.head) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.head)
	r.head = r.head[n:]
	return n, nil
}

// handoff is a listener whose connections somebody else has accepted.
type handoff struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandoff(addr net.Addr) *handoff {
	return &handoff{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handoff) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handoff) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

func (h *handoff) Addr() net.Addr { return h.addr }
