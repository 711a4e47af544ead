package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// patience bounds every wait.
const patience = 2 * time.Minute

// TestNotReady: who comes before a process can serve is told so, by every kind of listener; and then the same sockets
// serve.
func TestNotReady(t *testing.T) {
	c := defaultSettings()
	c.Client = []string{"http://127.0.0.1:0", "unix://" + t.TempDir() + "/s"}
	c.Metrics = []string{"http://127.0.0.1:0"}
	s, err := Listen(t.Context(), c.Sockets)
	if err != nil {
		t.Fatal(err)
	}
	leave := s.AnswerNotReady(NotReadyOptions{
		Why:     func() error { return errors.New("no store yet") },
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})

	silent, err := net.Dial("tcp", strings.TrimPrefix(s.listeners[0].urls[0], "http://")) // is not waited for
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	httpClient := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	get := func(l *listener, path string) (int, string) {
		t.Helper()
		r, err := httpClient.Get(l.urls[0] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	for _, l := range []*listener{s.listeners[0], s.listeners[2]} {
		if code, body := get(l, "/readyz"); code != http.StatusServiceUnavailable ||
			!strings.Contains(body, "[-]serving failed: no store yet") {
			t.Errorf("/readyz: %d %s", code, body)
		}
		if code, body := get(l, "/livez?exclude=serializable_read"); code != http.StatusOK {
			t.Errorf("/livez: %d %s", code, body)
		}
		if code, body := get(l, "/health"); code != http.StatusServiceUnavailable ||
			!strings.Contains(body, "no store yet") {
			t.Errorf("/health: %d %s", code, body)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, l := range s.listeners[:2] {
		conn, err := grpc.NewClient(strings.TrimPrefix(l.urls[0], "http://"),
			grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{}); status.Code(err) != codes.Unavailable ||
			!strings.Contains(err.Error(), "no store yet") {
			t.Error(err)
		}
		if h, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil ||
			h.Status != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Error(h, err)
		}
		defer func() { // the same client, once AnswerNotReady has ended
			if h, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{},
				grpc.WaitForReady(true)); err != nil || h.Status != healthpb.HealthCheckResponse_SERVING {
				t.Error("after it:", h, err)
			}
		}()
	}
	leave()
	serveFakes(t, s, c)
	if code, body := get(s.listeners[0], "/readyz"); code != http.StatusOK {
		t.Errorf("after it: %d %s", code, body)
	}
}

// TestFirstWord: a server that takes a connection says nothing before its client does.
func TestFirstWord(t *testing.T) {
	for name, change := range map[string]func(*serverSettings){
		"grpc+http": func(*serverSettings) {},
		"grpc":      func(c *serverSettings) { c.HTTP = []string{"http://127.0.0.1:0"} },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, change)
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			b := make([]byte, 9)
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if n, err := conn.Read(b); err == nil {
				t.Errorf("the server begins, with %x", b[:n])
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, b); err != nil || b[3] != 4 {
				t.Errorf("instead of SETTINGS: %x %v", b, err)
			}
		})
	}
}
