package status

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// quietWatch is a watch that is allowed, and has no events.
type quietWatch struct {
	grpc.ClientStream
	ctx     context.Context
	created bool
}

func (w *quietWatch) Send(*pb.WatchRequest) error { return nil }

func (w *quietWatch) Recv() (*pb.WatchResponse, error) {
	if !w.created {
		w.created = true
		return &pb.WatchResponse{Created: true}, nil
	}
	<-w.ctx.Done()
	return nil, w.ctx.Err()
}

// Watch makes the server a pb.WatchClient.
func (s *server) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	return &quietWatch{ctx: ctx}, nil
}

// viewer is what a tail is written to.
type viewer struct {
	*httptest.ResponseRecorder
	flushed func()
}

func (v *viewer) SetWriteDeadline(time.Time) error { return nil }
func (v *viewer) FlushError() error                { v.flushed(); return nil }

// tail opens one from an address, and returns when it is open or refused; end ends it.
func (s *server) tail(t *testing.T, from string) (code int, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequest(http.MethodGet, "/status/keyspaces/a/events", nil).WithContext(ctx)
	r.Host, r.RemoteAddr = "127.0.0.1:2382", from
	open, ended := make(chan struct{}), make(chan struct{})
	w := &viewer{httptest.NewRecorder(), sync.OnceFunc(func() { close(open) })}
	go func() {
		defer close(ended)
		s.h.ServeHTTP(w, r)
	}()
	select {
	case <-open:
	case <-ended:
	}
	return w.Code, func() { cancel(); <-ended }
}

// TestTailsPerViewer: one address holds no more than its part of the tails, whatever its ports or the host's part of an
// IPv6 address; others have theirs meanwhile, up to tailsMax in all; a tail that has ended makes room.
func TestTailsPerViewer(t *testing.T) {
	s := newServer(t)
	s.h.watch = s
	var ends []func()
	open := func(from string, want int) {
		t.Helper()
		code, end := s.tail(t, from)
		if code != want {
			t.Errorf("a tail from %q while %d are open: %d, want %d", from, len(ends), code, want)
		}
		if code == http.StatusOK {
			ends = append(ends, end)
		} else {
			end()
		}
	}
	froms := []func(i int) string{
		func(i int) string { return fmt.Sprintf("192.0.2.1:%d", 1000+i) },
		func(i int) string { return fmt.Sprintf("[2001:db8::%x]:80", i) },
		func(int) string { return "@" }, // a Unix socket
	}
	for _, from := range froms {
		for i := range tailsPerViewer {
			open(from(i), http.StatusOK)
		}
		open(from(tailsPerViewer), http.StatusTooManyRequests)
	}
	open("[::ffff:192.0.2.1]:80", http.StatusTooManyRequests) // the first again
	ends[0]()
	ends = ends[1:]
	open(froms[0](0), http.StatusOK)
	for i := range tailsMax - len(froms)*tailsPerViewer {
		open(fmt.Sprintf("[2001:db8:0:%x::1]:80", i+1), http.StatusOK)
	}
	open("198.51.100.1:80", http.StatusTooManyRequests)
	for _, end := range ends {
		end()
	}
	if n := len(s.h.viewers.tails); n != 0 || len(s.h.tails) != 0 {
		t.Errorf("%d viewers and %d tails are kept", n, len(s.h.tails))
	}
}
