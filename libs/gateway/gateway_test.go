package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// services are what a gateway leads to, in its tests.
type services struct {
	// answer is that of every call, and of a stream again and again.
	answer proto.Message
	shared bool // tenants share the gateway

	mu    sync.Mutex
	calls []metadata.MD
}

func (s *services) called(ctx context.Context) {
	md, _ := metadata.FromOutgoingContext(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, md)
}

func (s *services) Invoke(ctx context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	s.called(ctx)
	if s.answer != nil {
		proto.Merge(reply.(proto.Message), s.answer)
	}
	return nil
}

func (s *services) NewStream(
	ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s.called(ctx)
	return &endless{ctx: ctx, answer: s.answer}, nil
}

// endless is a stream that answers as long as somebody reads.
type endless struct {
	grpc.ClientStream
	ctx    context.Context
	answer proto.Message // nil: silence
}

func (s *endless) Header() (metadata.MD, error) { return nil, s.ctx.Err() }
func (s *endless) CloseSend() error             { return nil }
func (s *endless) SendMsg(any) error            { return s.ctx.Err() }

func (s *endless) RecvMsg(m any) error {
	if s.answer == nil {
		<-s.ctx.Done()
	} else {
		proto.Merge(m.(proto.Message), s.answer)
	}
	return s.ctx.Err()
}

const messageMax = 1 << 20

// tenantHeader says whose a request is.
const tenantHeader = "Tenant"

func newGateway(t *testing.T, s *services) *Gateway {
	t.Helper()
	g, err := New(Options{
		Conn: s, MessageBytesMax: messageMax, AnswerBytes: 1 << 20, Metadata: []string{"headwater-keyspace"},
		Tenant: func(r *http.Request) uint64 { return uint64(len(r.Header.Get(tenantHeader))) },
		Shared: func() bool { return s.shared },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// pipes is a listener of connections over memory, which a synctest bubble can wait for.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// serving runs test with what dials a server of g, in a bubble; nothing of the requests must be left after it.
func serving(t *testing.T, s *services, test func(t *testing.T, g *Gateway, dial func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := newGateway(t, s)
		l := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: g}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(l)
		}()
		var clients []net.Conn
		test(t, g, func() net.Conn {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			clients = append(clients, ours)
			return ours
		})
		for _, c := range clients {
			c.Close()
		}
		time.Sleep(time.Second) // net/http lingers
		synctest.Wait()
		if g.calls.Used() != 0 || g.bodies.bytes != 0 || len(g.bodies.of) != 0 || g.answers.Used() != 0 {
			t.Errorf("left: %d requests, %d bytes of bodies of %d tenants, %d of answers",
				g.calls.Used(), g.bodies.bytes, len(g.bodies.of), g.answers.Used())
		}
		server.Close()
		<-served
		g.Close()
	})
}

// post is the head of a request with a body of n bytes, or of any length if n is negative.
func post(path string, n int) string {
	length := fmt.Sprintf("Content-Length: %d", n)
	if n < 0 {
		length = "Transfer-Encoding: chunked"
	}
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", path, length)
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Error(err)
	}
}

// result is status and body of the answer on c.
func result(t *testing.T, c net.Conn) string {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(b))
}

// TestMetadata: headers become metadata as with etcd, but for names of our own.
func TestMetadata(t *testing.T) {
	s := &services{}
	serving(t, s, func(t *testing.T, _ *Gateway, dial func() net.Conn) {
		c := dial()
		write(t, c, "POST /v3/kv/range HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"+
			"Authorization: Bearer t\r\nX-Other: o\r\nGrpc-Metadata-Token: t2\r\n"+
			"Grpc-Metadata-Headwater-Keyspace: k\r\nGrpc-Metadata-Headwater-Relayed: 1\r\n"+
			"grpc-metadata-HEADWATER-caller: 1\r\nGrpc-Metadata-headwater-Bin: MQ==\r\nGrpc-Metadata-Headwater-: "+
			"1\r\n\r\n{}")
		if got := result(t, c); got != "200 {}" {
			t.Error(got)
		}
	})
	want := metadata.Pairs("authorization", "Bearer t", "grpcgateway-authorization", "Bearer t", "token", "t2",
		"headwater-keyspace", "k", "x-forwarded-host", "h", acceptKey, "*/*")
	if len(s.calls) != 1 || !maps.EqualFunc(s.calls[0], want, slices.Equal[[]string]) {
		t.Errorf("%v, want %v", s.calls, want)
	}
}

// TestMetadataUnprintable: a request that names its keyspace with bytes that metadata cannot have is refused, and not
// served without the name.
func TestMetadataUnprintable(t *testing.T) {
	for _, value := range []string{
		"t\xc3\xabam", "\xef\xbd\x94", "a\tb", "k\r\nGrpc-Metadata-Headwater-Keyspace: \xff",
	} {
		for _, more := range []string{"", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: MTIzNDU2Nzg5MDEyMzQ1Ng==\r\n"} {
			s := &services{}
			serving(t, s, func(t *testing.T, _ *Gateway, dial func() net.Conn) {
				c := dial()
				write(t, c, "POST /v3/kv/range HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n"+more+
					"Grpc-Metadata-Headwater-Keyspace: "+value+"\r\n\r\n{}")
				if got := result(t, c); !strings.HasPrefix(got, "400") ||
					!strings.Contains(got, "Grpc-Metadata-Headwater-Keyspace: only printable") {
					t.Errorf("%q: %s", value, got)
				}
			})
			if len(s.calls) != 0 {
				t.Errorf("%q: served with %v", value, s.calls)
			}
		}
	}
}

// TestBodySlow: a request whose body stops arriving gets an error in time, and so does a stream without a first
// message.
func TestBodySlow(t *testing.T) {
	for _, path := range []string{"/v3/kv/put", "/v3/lock/lock", "/v3/watch"} {
		for _, n := range []int{100, -1} {
			s := &services{}
			serving(t, s, func(t *testing.T, _ *Gateway, dial func() net.Conn) {
				c := dial()
				begin := time.Now()
				write(t, c, post(path, n))
				if n < 0 {
					write(t, c, "5\r\n{\"k\":\r\n")
				} else {
					write(t, c, `{"k":`)
				}
				got := result(t, c)
				if !strings.HasPrefix(got, "400") || !strings.Contains(got, errBodySlow.Error()) {
					t.Error(path, n, got)
				}
				if took := time.Since(begin); took != timeFor(messageMax) {
					t.Errorf("%s: answered after %v", path, took)
				}
			})
		}
	}
}

// TestBodyDeadlineEnds: the time for a body does not count for what follows it.
func TestBodyDeadlineEnds(t *testing.T) {
	serving(t, &services{}, func(t *testing.T, _ *Gateway, dial func() net.Conn) {
		c := dial()
		const body = `{"create_request":{"key":"YQ=="}}`
		write(t, c, post("/v3/watch", len(body))+body)
		time.Sleep(2 * timeFor(messageMax))
		if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if got := result(t, c); !strings.Contains(got, "timeout") { // the client's own
			t.Error(got)
		}
	})
}

// TestBodyTooLarge: a body that is larger than the JSON of any message is refused as soon as that much has arrived.
func TestBodyTooLarge(t *testing.T) {
	for _, path := range []string{"/v3/kv/put", "/v3/watch"} {
		serving(t, &services{}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
			c := dial()
			sent := make(chan int64)
			go func() {
				n, _ := io.Copy(c, io.MultiReader(strings.NewReader(post(path, 1<<30)+`{"key":"`), endlessly('A')))
				sent <- n
			}()
			if got := result(t, c); !strings.HasPrefix(got, "400") {
				t.Error(path, got)
			}
			c.Close()
			if n := <-sent; n > g.jsonMax+1<<20 {
				t.Errorf("%s: %d bytes were read", path, n)
			}
		})
	}
}

type endlessly byte

func (e endlessly) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// TestBodyMemory: when bodies take too much memory, the oldest one is refused.
func TestBodyMemory(t *testing.T) {
	serving(t, &services{}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
		g.bodies.bytesMax = 3*messageMax + 1000
		part := post("/v3/kv/put", 2*messageMax) + `{"key":"` + strings.Repeat("A", messageMax)
		var conns []net.Conn
		for range 4 {
			c := dial()
			write(t, c, part)
			conns = append(conns, c)
			synctest.Wait()
		}
		if got := result(t, conns[0]); !strings.Contains(got, errBodyMemory.Error()) {
			t.Error(got)
		}
		conns[1].Close() // and so its memory is free
		synctest.Wait()
		for i, c := range conns[2:] {
			write(t, c, strings.Repeat("A", messageMax-len(`{"key":"`)-2)+`"}`)
			if got := result(t, c); !strings.HasPrefix(got, "200") {
				t.Error(i, got)
			}
		}
	})
}

// TestNeverRead: a client that does not read is cut off after its time. At most one message waits for it.
func TestNeverRead(t *testing.T) {
	big := &pb.WatchResponse{Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Value: make([]byte, 32<<10)}}}}
	for _, opening := range []string{
		post("/v3/watch", 33) + `{"create_request":{"key":"YQ=="}}`,
		"GET /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
	} {
		serving(t, &services{answer: big}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
			c := dial()
			unanswered := dial()
			write(t, unanswered, opening)
			write(t, c, opening)
			for head := ""; !strings.HasSuffix(head, "\r\n\r\n"); { // it has begun
				b := make([]byte, 1)
				if _, err := c.Read(b); err != nil {
					t.Fatal(err)
				}
				head += string(b)
			}
			synctest.Wait()
			if used := g.answers.Used(); used < 32<<10 || used > 512<<10 {
				t.Errorf("%d bytes wait", used)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if g.answers.Used() != 0 || g.calls.Used() != 0 {
				t.Error("it is still there")
			}
		})
	}
}

// TestAnswers: answers that clients have not read count against the bound for further ones. An answer above the bound
// is sent alone.
func TestAnswers(t *testing.T) {
	large := &pb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Value: make([]byte, 1<<20)}}}
	serving(t, &services{answer: large}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
		ask := func() net.Conn {
			c := dial()
			write(t, c, post("/v3/kv/range", 2)+"{}")
			synctest.Wait()
			return c
		}
		first := ask()
		if got := result(t, ask()); !strings.HasPrefix(got, "429") || !strings.Contains(got, "too many requests") {
			t.Errorf("%.200s", got)
		}
		if got := result(t, first); !strings.HasPrefix(got, "200") {
			t.Errorf("%.200s", got)
		}
		if got := result(t, ask()); !strings.HasPrefix(got, "200") {
			t.Errorf("%.200s", got)
		}
	})
}

// TestCallsMax: further requests are refused.
func TestCallsMax(t *testing.T) {
	serving(t, &services{}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
		others := g.calls.Holding()
		others.Take(callsMax)
		c := dial()
		write(t, c, post("/v3/kv/range", 2)+"{}")
		if got := result(t, c); !strings.HasPrefix(got, "429") {
			t.Error(got)
		}
		others.Give(callsMax)
	})
}

// TestDeep: JSON that is nested deeply is refused, at any size, and costs no more than its bytes.
func TestDeep(t *testing.T) {
	serving(t, &services{}, func(t *testing.T, g *Gateway, dial func() net.Conn) {
		for _, body := range []string{
			strings.Repeat("[", int(g.jsonMax)-1),
			strings.Repeat(`{"success":[{"request_txn":`, int(g.jsonMax)/30),
			`{"nope":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}",
			strings.Repeat(`{"success":[{"request_txn":`, 6000) + strings.Repeat("}]}", 6000),
		} {
			c := dial()
			go func() { _, _ = io.WriteString(c, post("/v3/kv/txn", len(body))+body) }()
			if got := result(t, c); !strings.HasPrefix(got, "400") {
				t.Errorf("%.100s", got)
			}
			c.Close()
		}
	})
}

// FuzzRequest: whatever comes as the body of a request, and as messages of a stream, is answered.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{
		"", "{}", `{"key":"YQ=="}`, `{"success":[{"request_put":{"key":"aw=="}}]}`, "{bad", "\x00",
	} {
		f.Add("/v3/kv/txn", body)
		f.Add("/v3/watch", body)
		f.Add("/v3/lock/lock", body+body)
	}
	g, err := New(Options{Conn: &services{}, MessageBytesMax: messageMax, AnswerBytes: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path = path
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond) // of streams, which are silent
		defer cancel()
		w := &discard{header: make(http.Header)}
		g.ServeHTTP(w, r.WithContext(ctx))
		if w.status == 0 && !w.written {
			t.Errorf("%s %q: no answer", path, body)
		}
	})
}

type discard struct {
	header  http.Header
	status  int
	written bool
}

func (d *discard) Header() http.Header              { return d.header }
func (d *discard) Write(p []byte) (int, error)      { d.written = true; return len(p), nil }
func (d *discard) WriteHeader(status int)           { d.status = status }
func (d *discard) Flush()                           {}
func (d *discard) SetReadDeadline(time.Time) error  { return nil }
func (d *discard) SetWriteDeadline(time.Time) error { return nil }
