package server

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
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
	synctest.Test(t, func(t *testing.T) {
		const more = 100
		l := &pipeListener{make(chan net.Conn), make(chan struct{})}
		room := newWaitingRoom(slog.New(slog.DiscardHandler))
		room.max = waitingMax
		s := newSplitter(l, layer{}, room, slog.New(slog.DiscardHandler))
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
			go func() { _, _ = client.Write([]byte(head)) }()
			got, err := side.Accept()
			if err != nil {
				t.Fatal(err)
			}
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
	})
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
