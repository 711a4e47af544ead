package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/porttest"
)

func TestUnary(t *testing.T) {
	o := newOwner(t, "a")
	_, c := relayTo(t, Options{}, o.addr)
	var header, trailer metadata.MD
	ctx := metadata.AppendToOutgoingContext(testContext(t), "key", "v1", "key", "v2", "bin-bin", "\x00")
	var resp message
	if err := c.Invoke(ctx, "/test.Service/Unary", &message{Value: []byte("hello")}, &resp, grpc.Header(&header),
		grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if string(resp.Value) != "hello" || header.Get("h")[0] != "head-v1+v2" || header.Get("data-bin")[0] != "\x00\xff" ||
		trailer.Get("t")[0] != "trail" {
		t.Error(resp.Value, header, trailer)
	}
	if got, err := unary(t, c, "deadline"); err != nil || got != "true" {
		t.Error("the deadline", got, err)
	}
	_, err := unary(t, c, "fail", grpc.Trailer(&trailer))
	st := status.Convert(err)
	if st.Code() != codes.OutOfRange || st.Message() != "no such thing" || len(st.Details()) != 1 ||
		trailer.Get("t")[0] != "trail" {
		t.Error(err, st.Details(), trailer)
	}
	// Empty, big, and binary messages.
	for _, n := range []int{0, 1, 1 << 10, 20 << 20} {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		if got, err := unary(t, c, string(want)); err != nil || got != string(want) {
			t.Errorf("%d bytes came back as %d: %v", n, len(got), err)
		}
	}
	if err := c.Invoke(ctx, "/test.Service/NoSuch", &message{}, &resp); status.Code(err) != codes.Unimplemented {
		t.Error("an unknown method:", err)
	}
}

// TestTold: the header revisions of answers are told before the answers leave. A message of the test's is encoded as a
// response is whose header it holds.
func TestTold(t *testing.T) {
	o := newOwner(t, "a")
	var told atomic.Int64
	_, c := relayTo(t, Options{Told: func(context.Context) func(int64) { return told.Store }}, o.addr)
	answer := func(rev int64) string {
		b, err := proto.Marshal(&pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: rev, RaftTerm: 3})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if _, err := unary(t, c, answer(7)); err != nil || told.Load() != 7 {
		t.Errorf("a call: told of %d, %v", told.Load(), err)
	}
	s := open(t, testContext(t), c, "Echo")
	for rev := int64(8); rev < 12; rev++ {
		var m message
		if err := errors.Join(s.SendMsg(&message{Value: []byte(answer(rev))}), s.RecvMsg(&m)); err != nil {
			t.Fatal(err)
		}
		if told.Load() != rev {
			t.Errorf("a stream: told of %d, not of %d", told.Load(), rev)
		}
	}
}

// TestRelayed: a pod knows the calls that another has passed on.
func TestRelayed(t *testing.T) {
	up, err := outgoing(t.Context(), "/m")
	if err != nil {
		t.Fatal(err)
	}
	md, _ := metadata.FromOutgoingContext(up)
	if Relayed(t.Context()) || !Relayed(metadata.NewIncomingContext(t.Context(), md)) {
		t.Error("a relayed call is not known, or one that is not is")
	}
}

// TestStreams runs random bidirectional streams side by side.
func TestStreams(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	a, b := newOwner(t, "a"), newOwner(t, "b")
	pool, c := relayTo(t, Options{}, a.addr, b.addr)
	eventually(t, "connected to both", func() bool {
		_, err := unary(t, c, "x")
		return err == nil && a.calls.Load() > 0 && b.calls.Load() > 0
	})
	unaries := [...]int64{a.calls.Load(), b.calls.Load()}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := echoes(t, c, rand.New(rand.NewPCG(seed, uint64(i)))); err != nil {
				t.Errorf("stream %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if x, y := a.calls.Load()-unaries[0], b.calls.Load()-unaries[1]; x == 0 || y == 0 {
		t.Errorf("streams are not spread: %d and %d", x, y)
	}
	eventually(t, "ended", func() bool { return pool.streams.Load() == 0 })
}

func echoes(t *testing.T, c *grpc.ClientConn, r *rand.Rand) error {
	s := open(t, testContext(t), c, "Echo")
	if header, err := s.Header(); err != nil || len(header.Get("owner")) != 1 {
		return fmt.Errorf("header before the first message: %v, %w", header, err)
	}
	n := r.IntN(200)
	value := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, i*i%70_000) }
	errs := make(chan error, 1)
	go func() {
		for i := range n {
			if err := s.SendMsg(&message{Value: value(i)}); err != nil {
				errs <- fmt.Errorf("send: %w", err)
				return
			}
		}
		errs <- s.CloseSend()
	}()
	for i := range n {
		m := new(message)
		if err := s.RecvMsg(m); err != nil {
			return fmt.Errorf("receive %d of %d: %w", i, n, err)
		}
		if !bytes.Equal(m.Value, value(i)) {
			return fmt.Errorf("message %d is another", i)
		}
	}
	if err := <-errs; err != nil {
		return err
	}
	if err := s.RecvMsg(new(message)); status.Code(err) != codes.AlreadyExists || s.Trailer().Get("t")[0] != "trail" {
		return fmt.Errorf("end: %w, trailer %v", err, s.Trailer())
	}
	return nil
}

// TestSlowReader: a client that does not read holds up its own stream alone, and little is kept for it.
func TestSlowReader(t *testing.T) {
	o := newOwner(t, "a")
	_, c := relayTo(t, Options{}, o.addr)
	ctx, cancel := context.WithCancel(testContext(t))
	const size = 64 << 10
	s := open(t, ctx, c, "List")
	if err := s.SendMsg(&message{Value: make([]byte, size)}); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(message)); err != nil {
		t.Fatal(err)
	}
	// The owner stops sending once windows and buffers are full: two windows of streams, gRPC's write quotas.
	stuck, since := int64(-1), 0
	eventually(t, "held back", func() bool {
		if n := o.sent.Load(); n != stuck {
			stuck, since = n, 0
		}
		since++
		return since > 200
	})
	if held := stuck * size; held > 4<<20 {
		t.Errorf("%d bytes are held for a client that does not read", held)
	}
	for range 20 {
		if _, err := unary(t, c, "x"); err != nil {
			t.Fatal("another call waits for the slow reader:", err)
		}
	}
	for range 3 * stuck {
		if err := s.RecvMsg(new(message)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-o.ended; status.Code(err) != codes.Canceled {
		t.Error("the owner's stream ends with", err)
	}
}

func TestCancel(t *testing.T) {
	o := newOwner(t, "a")
	pool, c := relayTo(t, Options{}, o.addr)
	ctx, cancel := context.WithCancel(testContext(t))
	s := open(t, ctx, c, "Echo")
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-o.ended; status.Code(err) != codes.Canceled {
		t.Error("cancelled by the client:", err)
	}

	s = open(t, testContext(t), c, "Echo")
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	pool.Drain()
	if err := s.RecvMsg(new(message)); status.Code(err) != codes.Unavailable {
		t.Error("drained:", err)
	}
	if err := <-o.ended; status.Code(err) != codes.Canceled {
		t.Error("the owner of a drained stream sees", err)
	}
	s = open(t, testContext(t), c, "Echo")
	if err := s.RecvMsg(new(message)); status.Code(err) != codes.Unavailable {
		t.Error("after the drain:", err)
	}
	if _, err := unary(t, c, "x"); err != nil {
		t.Error("a unary call while draining:", err)
	}
}

// TestDeadline: a stream ends at its client's deadline, also for the owner.
func TestDeadline(t *testing.T) {
	// On a busy machine the deadline may pass before the owner has the stream.
	for within := 50 * time.Millisecond; !endsAtDeadline(t, within); within *= 2 {
		if within > patience {
			t.Fatal("the owner never had the stream")
		}
	}
}

// endsAtDeadline opens a stream, and reports whether its owner had it before the deadline.
func endsAtDeadline(t *testing.T, within time.Duration) bool {
	t.Helper()
	o := newOwner(t, "a")
	_, c := relayTo(t, Options{}, o.addr)
	if _, err := unary(t, c, "x"); err != nil { // the pods are connected
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(testContext(t), within)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Service/Echo")
	var header metadata.MD
	if err == nil {
		header, err = s.Header()
	}
	if err == nil {
		err = s.RecvMsg(new(message))
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Error("past the deadline:", err)
	}
	if len(header.Get("owner")) == 0 {
		return false
	}
	if err := <-o.ended; status.Code(err) != codes.Canceled && status.Code(err) != codes.DeadlineExceeded {
		t.Error("the owner's stream ends with", err)
	}
	return true
}

// TestOwnerDies: a stream whose pod dies ends with Unavailable.
func TestOwnerDies(t *testing.T) {
	o := newOwner(t, "a")
	_, c := relayTo(t, Options{}, o.addr)
	s := open(t, testContext(t), c, "Echo")
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	o.server.Stop()
	if err := s.RecvMsg(new(message)); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if _, err := unary(t, c, "x"); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
}

// TestNobody: without a pod calls fail at once with Unavailable, also those without a deadline.
func TestNobody(t *testing.T) {
	gone := porttest.Addr(t)
	lookup := func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
	for _, endpoint := range []string{gone, "unix:///nonexistent", "name:1234"} {
		_, c := relayTo(t, Options{lookup: lookup}, endpoint)
		if _, err := unary(t, c, "x"); status.Code(err) != codes.Unavailable {
			t.Error(endpoint, err)
		}
		s := open(t, t.Context(), c, "Echo")
		if err := s.RecvMsg(new(message)); status.Code(err) != codes.Unavailable {
			t.Error(endpoint, err)
		}
	}
}

// TestLoop: pods that relay to each other do not.
func TestLoop(t *testing.T) {
	s := newServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	var pool *Pool
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if pool, err = NewPool(Options{Name: "test", Endpoints: []string{l.Addr().String()}}); err != nil {
		t.Fatal(err)
	}
	pool.Register(s, testDesc(nil))
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	defer func() { s.Stop(); <-done; pool.Close() }()
	_, c := relayTo(t, Options{}, l.Addr().String())
	eventually(t, "refused as a loop", func() bool {
		_, err := unary(t, c, "x")
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "does not serve it")
	})
	if err := open(t, testContext(t), c, "Echo").RecvMsg(new(message)); status.Code(err) != codes.Unavailable ||
		!strings.Contains(err.Error(), "does not serve it") {
		t.Error(err)
	}
}

// TestHealthAndNames: calls go to pods that serve, wherever names point at the time.
func TestHealthAndNames(t *testing.T) {
	a, b := newOwner(t, "a"), newOwner(t, "b")
	_, port, err := net.SplitHostPort(a.addr)
	if err != nil {
		t.Fatal(err)
	}
	var found atomic.Pointer[[]string]
	found.Store(&[]string{"127.0.0.1"})
	lookup := func(context.Context, string) ([]string, error) {
		if ips := *found.Load(); ips != nil {
			return ips, nil
		}
		return nil, errors.New("no answer")
	}
	_, c := relayTo(t, Options{lookup: lookup}, "pods.test:"+port, b.addr)
	answeredBy := func() string {
		var trailer metadata.MD
		if _, err := unary(t, c, "x", grpc.Trailer(&trailer)); err != nil || len(trailer.Get("owner")) == 0 {
			return fmt.Sprint(err)
		}
		return trailer.Get("owner")[0]
	}
	only := func(name string) func() bool {
		return func() bool {
			for range 3 { // more than there are pods
				if answeredBy() != name {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "using both", func() bool { x, y := answeredBy(), answeredBy(); return x+y == "ab" || x+y == "ba" })
	found.Store(new([]string)) // the name's server is down: the last addresses stay
	b.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	eventually(t, "using a alone", only("a"))
	a.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	eventually(t, "refusing", func() bool { _, err := unary(t, c, "x"); return status.Code(err) == codes.Unavailable })
	b.health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	eventually(t, "using b alone", only("b"))
}

func TestEndpoints(t *testing.T) {
	for s, want := range map[string]endpoint{
		"kv:2379":              {host: "kv", port: "2379"},
		"dns:///kv.ns.svc:80":  {host: "kv.ns.svc", port: "80"},
		"http://10.0.0.1:2379": {host: "10.0.0.1", port: "2379", tls: plain},
		"https://kv:2380/":     {host: "kv", port: "2380", tls: secure},
		"unixs:///run/kv.sock": {path: "/run/kv.sock", tls: secure},
		"[::1]:2379":           {host: "::1", port: "2379"},
		"unix:///run/kv.sock":  {path: "/run/kv.sock", tls: plain},
	} {
		if got, err := parseEndpoint(s); err != nil || got != want {
			t.Error(s, got, err)
		}
	}
	for _, s := range []string{
		"", "kv", "kv:", ":2379", "kv:0", "kv:http", "kv:99999", "https://kv", "unix://", "a b:1", "http://kv/path:1",
	} {
		if Validate([]string{s}) == nil {
			t.Errorf("%q is taken", s)
		}
	}
	if _, err := NewPool(Options{Name: "kv"}); err == nil {
		t.Error("a pool of nobody")
	}
}

func FuzzEndpoint(f *testing.F) {
	f.Add("kv:2379")
	f.Add("unix:///x")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := parseEndpoint(s)
		if err == nil && e.path == "" && (e.host == "" || e.port == "") {
			t.Error(s, e)
		}
	})
}
