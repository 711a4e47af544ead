package s3

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStall: a service that stops in the middle of an object ends the call with an error.
func TestStall(t *testing.T) {
	const size = 1 << 20
	ended := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Length", strconv.Itoa(size))
		h.Set("Last-Modified", time.Unix(0, 0).UTC().Format(http.TimeFormat))
		h.Set("ETag", `"e"`)
		if r.Method != http.MethodGet {
			return
		}
		if _, err := w.Write(make([]byte, size/2)); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		<-ended
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(ended) })
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	b, err := open("s3://backups/p?insecure=true&region=r&endpoint="+strings.TrimPrefix(srv.URL, "http://"),
		100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	o, err := b.Open(t.Context(), "stuck")
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, o)
	// On a busy machine the connection may stand still before it has moved all that the service sends.
	if closeErr := o.Close(); !errors.Is(err, os.ErrDeadlineExceeded) || n > size/2 {
		t.Errorf("%d bytes, %v, %v", n, err, closeErr)
	}
}

// TestErrorsSayWhere: an error of the service says which bucket and service it is about, and has the service's code.
func TestErrorsSayWhere(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>")
	}))
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	host := strings.TrimPrefix(srv.URL, "http://")
	b, err := Open("s3://backups/p?insecure=true&region=r&endpoint=" + host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	_, listErr := b.List(t.Context())
	_, openErr := b.Open(t.Context(), "a")
	for what, err := range map[string]error{
		"list": listErr, "open": openErr, "put": b.Put(t.Context(), "a", strings.NewReader("a"), 1),
		"remove": b.Remove(t.Context(), "a"),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), "the bucket backups at "+host+": AccessDenied: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestStallConn: a connection that moves bytes goes on, in either direction, while the other one is silent.
func TestStallConn(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	deadlines := make(chan time.Time, 2)
	c := &stallConn{&watchedConn{one, deadlines}, time.Hour}
	go func() {
		var b [1]byte
		_, _ = other.Read(b[:])
		_, _ = other.Write(b[:])
	}()
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := c.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if left := time.Until(<-deadlines); left <= 0 || left > time.Hour {
			t.Errorf("a deadline in %s", left)
		}
	}
}

// watchedConn tells of deadlines for both directions.
type watchedConn struct {
	net.Conn
	deadlines chan<- time.Time
}

// SetDeadline implements net.Conn.
func (c *watchedConn) SetDeadline(t time.Time) error {
	c.deadlines <- t
	return c.Conn.SetDeadline(t)
}
