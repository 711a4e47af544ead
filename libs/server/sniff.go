package server

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

const (
	// sniffTimeout is how long a connection may take to show its protocol by its first bytes.
	sniffTimeout = 10 * time.Second
	// acceptRetryMax bounds the pause after a failed Accept (too many open files).
	acceptRetryMax = time.Second

	frameHeaderBytes = 9 // RFC 9113, 4.1
	// settingsBytesMax bounds the first SETTINGS of a client: 170 settings, of which HTTP/2 knows fewer than ten.
	settingsBytesMax = 1020
	// headBytesMax is how many bytes of a connection are looked at.
	headBytesMax = len(http2.ClientPreface) + frameHeaderBytes + settingsBytesMax
)

var (
	// preface is what a client of HTTP/2 sends first (RFC 9113, 3.4), before its SETTINGS.
	preface = []byte(http2.ClientPreface)
	// prefaceHead is the beginning of the preface that no request line of HTTP/1 has.
	prefaceHead = preface[:len("PRI * HTTP/2.0")]
)

// verdict is what the first bytes of a connection show.
type verdict int

const (
	undecided verdict = iota
	isHTTP1
	isHTTP2   // with the client's whole handshake, so that grpc-go does not wait for it
	isTLS     // a handshake of TLS begins
	isNeither // begins like HTTP/2 but goes on differently
)

// recordHandshake is the first byte of a connection with TLS (RFC 8446, 5.1).
const recordHandshake = 0x16

// judge looks at the first bytes of a connection, as many as have arrived.
func judge(head []byte) verdict {
	if len(head) > 0 && head[0] == recordHandshake {
		return isTLS
	}
	n := min(len(head), len(prefaceHead))
	if !bytes.Equal(head[:n], prefaceHead[:n]) {
		return isHTTP1
	}
	n = min(len(head), len(preface))
	if !bytes.Equal(head[:n], preface[:n]) {
		return isNeither
	}
	frame := head[n:]
	if len(frame) < frameHeaderBytes {
		return undecided
	}
	size := int(frame[0])<<16 | int(frame[1])<<8 | int(frame[2])
	switch {
	case http2.FrameType(frame[3]) != http2.FrameSettings || size > settingsBytesMax:
		return isNeither
	case len(frame) < frameHeaderBytes+size:
		return undecided
	}
	return isHTTP2
}

// splitter shares one listener between an HTTP/2 and an HTTP/1 server. Accepting never waits for a client. A client
// that has not shown its protocol yet is in the waiting room.
type splitter struct {
	root         net.Listener
	layer        layer
	http1, http2 *handoff
	waiting      *waitingRoom
	log          *slog.Logger
	wg           sync.WaitGroup
}

func newSplitter(root net.Listener, layer layer, waiting *waitingRoom, log *slog.Logger) *splitter {
	return &splitter{
		root:    root,
		layer:   layer,
		http1:   newHandoff(root.Addr()),
		http2:   newHandoff(root.Addr()),
		waiting: waiting,
		log:     log,
	}
}

// serve accepts until the root listener is closed. It then closes both sides, and the undecided connections.
func (s *splitter) serve() error {
	defer func() {
		s.http1.Close()
		s.http2.Close()
		s.waiting.close()
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
		s.waiting.enter(c)
		s.wg.Go(func() { s.sort(c) })
	}
}

// sort waits for the first bytes of c and gives it to its server. The TLS handshake before them has the same deadline
// and the same waiting room. A client that begins TLS where there is none goes to the HTTP/1 server, which answers with
// its own error.
func (s *splitter) sort(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(sniffTimeout)) // if this fails, the read fails too
	to, v, err := s.layer.open(c)
	stays := s.waiting.leave(c)
	if err != nil || !stays || v == isNeither {
		c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	if v == isHTTP2 {
		s.http2.give(to)
	} else {
		s.http1.give(to)
	}
}

// sniffByReading reads until judge has decided. It returns a connection that gives the same bytes again.
func sniffByReading(c net.Conn) (net.Conn, verdict, error) {
	head := make([]byte, 0, headBytesMax)
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

// replayed is a connection that gives bytes again that were read from it.
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

// NetConn returns the inner connection. tlsconf.InfoOf calls it.
func (r *replayed) NetConn() net.Conn { return r.Conn }

// handoff is a listener for connections that somebody else has accepted.
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
