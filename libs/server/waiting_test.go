package server

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
)

// pipeListener accepts pipes, of which nothing can be peeked.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error { close(l.closed); return nil }

func (*pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestSilence: whatever number of connections says nothing, the next that speaks is served at once (no time passes
// here), and the ones closed for it are the oldest. The end of the listener is the end of all that are undecided.
func TestSilence(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			testSilence(t, layer{}, func(c net.Conn) net.Conn { return c })
		})
	})
	t.Run("TLS", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ca := tlstest.New(t, "ca")
			secure := layer{tls: openTLS(t, serverOptions(ca.Server("server")))}
			testSilence(t, secure, func(c net.Conn) net.Conn { return tls.Client(c, ca.Client()) })
		})
	})
}

func testSilence(t *testing.T, outer layer, wrap func(net.Conn) net.Conn) {
	const more = 100
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	room := newWaitingRoom(slog.New(slog.DiscardHandler))
	room.max = waitingMax
	s := newSplitter(l, outer, room, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	connect := func() net.Conn {
		client, server := net.Pipe()
		l.conns <- server
		return client
	}
	silent := make([]net.Conn, waitingMax+more)
	for i := range silent {
		silent[i] = connect()
	}
	ended := make([]bool, len(silent))
	for i, c := range silent {
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended[i] = errors.Is(err, io.EOF)
		}()
	}
	for _, head := range []string{"GET / HTTP/1.1\r\n", http2.ClientPreface + settings} {
		client, side := connect(), s.http1
		if head[0] == 'P' {
			side = s.http2
		}
		go func() { _, _ = wrap(client).Write([]byte(head)) }()
		got, err := side.Accept()
		if err != nil {
			t.Fatal(err)
		}
		client.Close() // first: the end of TLS would wait for somebody to read it
		got.Close()
	}
	synctest.Wait()
	for i, e := range ended {
		if want := i <= more; e != want { // the first that spoke needed room, and left it for the second
			t.Fatalf("connection %d of %d: closed is %v", i, len(ended), e)
		}
	}
	l.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	synctest.Wait()
	for i, e := range ended {
		if !e {
			t.Fatalf("connection %d is left open", i)
		}
	}
}

// TestDribble: the deadline is one for the handshake and the first bytes after it, however busy the client looks.
func TestDribble(t *testing.T) {
	for _, name := range []string{"in the handshake", "after it"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := tlstest.New(t, "ca")
				l := &pipeListener{make(chan net.Conn), make(chan struct{})}
				log := slog.New(slog.DiscardHandler)
				s := newSplitter(l, layer{tls: openTLS(t, serverOptions(ca.Server("server")))}, newWaitingRoom(log),
					log)
				served := make(chan error, 1)
				go func() { served <- s.serve() }()
				client, server := net.Pipe()
				begin := time.Now()
				l.conns <- server
				var out io.Writer = client
				what := []byte("\x16\x03\x01\x02\x00") // a record that never ends
				if name == "after it" {
					time.Sleep(sniffTimeout / 2)
					secured := tls.Client(client, ca.Client())
					if err := secured.Handshake(); err != nil {
						t.Fatal(err)
					}
					out, what = secured, preface
				}
				for i := 0; ; i++ {
					if _, err := out.Write(what[min(i, len(what)-1):][:1]); err != nil {
						break
					}
					time.Sleep(sniffTimeout / 25)
				}
				if took := time.Since(begin); took < sniffTimeout || took > sniffTimeout+time.Second {
					t.Errorf("closed after %v", took)
				}
				l.Close()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestRoom: there is always room for one more, for which the oldest goes.
func TestRoom(t *testing.T) {
	room := newWaitingRoom(slog.New(slog.DiscardHandler))
	room.max = 1
	first, server1 := pipe(t)
	_, server2 := pipe(t)
	room.enter(server1)
	room.enter(server1) // once is enough
	room.enter(server2)
	if _, err := first.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the oldest is not closed: %v", err)
	}
	if room.leave(server1) || !room.leave(server2) || room.makeRoom() {
		t.Error("the room has forgotten who waits")
	}
}
