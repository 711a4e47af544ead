package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

func TestJudge(t *testing.T) {
	for head, want := range map[string]verdict{
		"":                     undecided,
		"P":                    undecided,
		"PRI * HTTP/2.":        undecided,
		"PRI * HTTP/2.0":       undecided,
		http2.ClientPreface:    undecided,
		"PRI * HTTP/2.0\r\n\n": isNeither,

		http2.ClientPreface + "\x00\x00\x06\x04":                                 undecided,
		http2.ClientPreface + "\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "12345":   undecided,
		http2.ClientPreface + "\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "123456":  isHTTP2,
		http2.ClientPreface + "\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "1234567": isHTTP2,
		http2.ClientPreface + "\x00\x00\x06\x01\x00\x00\x00\x00\x00":             isNeither, // HEADERS
		http2.ClientPreface + "\x00\x04\x00\x04\x00\x00\x00\x00\x00":             isNeither, // too long

		"G":                   isHTTP1,
		"POST / HTTP/1.1\r\n": isHTTP1,
		"PRI * HTTP/1.1\r\n":  isHTTP1,
		"\x16\x03\x01":        isTLS,
		"PRI  * HTTP/2.0\r\n": isHTTP1,
	} {
		if got := judge([]byte(head)); got != want {
			t.Errorf("%q: %v, want %v", head, got, want)
		}
	}
}

// settings is an empty SETTINGS frame.
const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// pipe returns both ends of a TCP connection.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestSniff sends first bytes in pieces and expects all of them to be there for the server afterwards.
func TestSniff(t *testing.T) {
	for name, sniff := range map[string]func(net.Conn) (net.Conn, verdict, error){
		"system": sniff, "by reading": sniffByReading,
	} {
		for _, c := range []struct {
			pieces []string
			want   verdict
		}{
			{[]string{http2.ClientPreface + settings + "more"}, isHTTP2},
			{[]string{"PRI", " * HTTP/", "2.0", "\r\n\r\nSM\r\n\r\n", settings[:5], settings[5:]}, isHTTP2},
			{[]string{http2.ClientPreface + "GET / HTTP/1.1"}, isNeither},
			{[]string{"P", "O", "ST / HTTP/1.1\r\n\r\n"}, isHTTP1},
			{[]string{"GET / HTTP/1.1\r\n\r\n"}, isHTTP1},
		} {
			t.Run(name+"/"+c.pieces[0], func(t *testing.T) {
				client, server := pipe(t)
				go func() {
					for _, p := range c.pieces {
						if _, err := client.Write([]byte(p)); err != nil {
							t.Error(err)
						}
					}
					client.(*net.TCPConn).CloseWrite()
				}()
				got, v, err := sniff(server)
				if err != nil || v != c.want {
					t.Fatal(v, err)
				}
				all, err := io.ReadAll(got)
				if err != nil {
					t.Fatal(err)
				}
				if want := bytes.Join(toBytes(c.pieces), nil); !bytes.Equal(all, want) {
					t.Errorf("read %q, want %q", all, want)
				}
			})
		}
		t.Run(name+"/end", func(t *testing.T) {
			client, server := pipe(t)
			client.Write([]byte("PR"))
			client.Close()
			// A peek keeps seeing "PR", so that the end shows as the deadline.
			server.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, _, err := sniff(server); !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		})
		t.Run(name+"/silence", func(t *testing.T) {
			_, server := pipe(t)
			server.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, _, err := sniff(server); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

func toBytes(s []string) [][]byte {
	var b [][]byte
	for _, s := range s {
		b = append(b, []byte(s))
	}
	return b
}

// TestSplitterKeepsConnections: connections arrive at their side with their real type, which grpc-go looks at.
func TestSplitterKeepsConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newSplitter(l, layer{}, newWaitingRoom(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- s.serve() }()
	for _, c := range []struct {
		head string
		side *handoff
	}{{http2.ClientPreface + settings, s.http2}, {"GET / HTTP/1.1\r\n", s.http1}} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		client.Write([]byte(c.head))
		got, err := c.side.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := got.(*net.TCPConn); !ok {
			t.Errorf("%q arrives as %T", c.head, got)
		}
		got.Close()
		client.Close()
	}
	l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := s.http2.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// TestGuard refuses connections whose descriptors are too high and goes on accepting.
func TestGuard(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	g := &guard{
		Listener: l, max: 1, waiting: newWaitingRoom(slog.New(slog.DiscardHandler)), log: slog.New(slog.DiscardHandler),
	}
	accepted := make(chan error, 1)
	go func() {
		_, err := g.Accept()
		accepted <- err
	}()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is served")
		}
		c.Close()
	}
	l.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) || g.refused.Load() != 3 {
		t.Errorf("%v, %d refused", err, g.refused.Load())
	}
	if fdMax() <= 0 {
		t.Error("no limit of open files")
	}
}

func TestTap(t *testing.T) {
	g := NewGRPC(GRPCOptions{})
	defer g.server.Stop()
	ask := func(version string) error {
		_, err := g.tap(t.Context(), &tap.Info{
			FullMethodName: "/grpc.health.v1.Health/Check",
			Header:         metadata.MD{rpctypes.MetadataClientAPIVersionKey: {version}},
		})
		return err
	}
	if err := ask("\xff"); !errors.Is(err, rpctypes.ErrGRPCInvalidClientAPIVersion) {
		t.Error(err)
	}
	for i := range 2 * clientVersionsMax {
		if err := ask(string(rune('a' + i))); err != nil {
			t.Fatal(err)
		}
	}
	versions := *g.clients.byVersion.Load()
	if len(versions) != clientVersionsMax+1 || versions[otherVersions].unary.Load() != clientVersionsMax {
		t.Errorf("%d versions, %v others", len(versions), versions[otherVersions])
	}
	g.clients = clientVersions{}
	for range 2 {
		if err := ask(strings.Repeat("9", clientVersionBytesMax+1)); err != nil {
			t.Fatal(err)
		}
	}
	if versions := *g.clients.byVersion.Load(); len(versions) != 1 || versions[otherVersions].unary.Load() != 2 {
		t.Errorf("long versions: %v", versions)
	}
}

// TestSlowCode: a call is logged with the code that its client gets and that is counted, whatever kind of error the
// handler returned.
func TestSlowCode(t *testing.T) {
	for want, err := range map[string]error{
		"OK": nil, "Canceled": fmt.Errorf("store: %w", context.Canceled), "DeadlineExceeded": context.DeadlineExceeded,
		"NotFound": status.Error(codes.NotFound, ""), "Unknown": io.EOF,
	} {
		var out bytes.Buffer
		g := NewGRPC(GRPCOptions{SlowRequest: 1, Log: slog.New(slog.NewTextHandler(&out, nil))})
		defer g.server.Stop()
		m := g.addMethod("s", "m", typeUnary)
		call := g.countUnary(m, grpc.MethodDesc{Handler: func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
			return nil, err
		}})
		_, _ = call(nil, t.Context(), nil, nil)
		if !strings.Contains(out.String(), "code="+want+"\n") {
			t.Errorf("%v is logged as %s", err, out.String())
		}
		for code := range m.handled {
			if n := m.handled[code].Load(); (n == 1) != (codes.Code(code).String() == want) {
				t.Errorf("%v: %d of code %v", err, n, codes.Code(code))
			}
		}
	}
}
