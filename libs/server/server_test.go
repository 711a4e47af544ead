package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/tlsconf"
)

// fakeKV answers constants; Range fails with NotFound.
type fakeKV struct{ pb.UnimplementedKVServer }

func (fakeKV) Put(context.Context, *pb.PutRequest) (*pb.PutResponse, error) {
	return &pb.PutResponse{Header: &pb.ResponseHeader{Revision: 7}}, nil
}

func (fakeKV) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return nil, status.Error(codes.NotFound, "nothing here")
}

// whoami answers with the name that the client's certificate has.
type whoami struct{ pb.UnimplementedLeaseServer }

func (whoami) LeaseGrant(ctx context.Context, _ *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	id, ok := tlsconf.FromContext(ctx)
	if !ok {
		return &pb.LeaseGrantResponse{Error: "nobody"}, nil
	}
	return &pb.LeaseGrantResponse{Error: id.CommonName}, nil
}

// fakeWatch holds its streams open until it is drained or the client goes.
type fakeWatch struct {
	pb.UnimplementedWatchServer
	drained chan struct{}
}

func (w *fakeWatch) Watch(s grpc.BidiStreamingServer[pb.WatchRequest, pb.WatchResponse]) error {
	if err := s.Send(&pb.WatchResponse{Created: true}); err != nil {
		return err
	}
	select {
	case <-w.drained:
		return status.Error(codes.Unavailable, "etcdserver: server stopped")
	case <-s.Context().Done():
		return s.Context().Err()
	}
}

// fakeHealth is a keyspace with alarms and read errors to order.
type fakeHealth struct {
	mu     sync.Mutex
	alarms []*pb.AlarmMember
	err    [2]error // linearizable, serializable
}

func (h *fakeHealth) Alarms() []*pb.AlarmMember {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.alarms
}

func (h *fakeHealth) Read(_ context.Context, serializable bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if serializable {
		return h.err[1]
	}
	return h.err[0]
}

func (h *fakeHealth) set(alarms []*pb.AlarmMember, linearizable, serializable error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.alarms, h.err = alarms, [2]error{linearizable, serializable}
}

// running is a Server over fakes on free ports.
type running struct {
	*Server
	health *fakeHealth
	watch  *fakeWatch
	stop   context.CancelFunc
	done   chan error
}

// serverSettings are what tests change.
type serverSettings struct {
	Sockets
	MaxRequestBytes                                       int
	KeepaliveMinTime, KeepaliveInterval, KeepaliveTimeout time.Duration
	WarningUnaryRequestDuration, MaxConnectionAge         time.Duration
	EnablePprof, ExtensiveMetrics                         bool
	HostWhitelist, CORS                                   []string
}

// defaultSettings are etcd's.
func defaultSettings() serverSettings {
	return serverSettings{
		MaxRequestBytes: 3 << 19, KeepaliveMinTime: 5 * time.Second, KeepaliveInterval: 2 * time.Hour,
		KeepaliveTimeout: 20 * time.Second,
		HostWhitelist:    []string{"*"}, CORS: []string{"*"},
	}
}

func start(t *testing.T, change func(*serverSettings)) *running {
	t.Helper()
	c := defaultSettings()
	c.Client = []string{"http://127.0.0.1:0"}
	c.WarningUnaryRequestDuration = time.Nanosecond
	if change != nil {
		change(&c)
	}
	s, err := Listen(t.Context(), c.Sockets)
	if err != nil {
		t.Fatal(err)
	}
	return serveFakes(t, s, c)
}

// serveFakes serves fakes on the sockets of s until the end of the test.
func serveFakes(t *testing.T, s *Server, c serverSettings) *running {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	g := NewGRPC(GRPCOptions{
		MaxRequestBytes: c.MaxRequestBytes, MaxConcurrentStreams: math.MaxUint32, Histograms: c.ExtensiveMetrics,
		KeepaliveMinTime: c.KeepaliveMinTime, KeepaliveInterval: c.KeepaliveInterval,
		KeepaliveTimeout: c.KeepaliveTimeout,
		SlowRequest:      c.WarningUnaryRequestDuration, Log: log, MaxConnectionAge: c.MaxConnectionAge,
	})
	r := &running{
		Server: s, health: &fakeHealth{}, done: make(chan error, 1),
		watch: &fakeWatch{drained: make(chan struct{})},
	}
	pb.RegisterKVServer(g, fakeKV{})
	pb.RegisterWatchServer(g, r.watch)
	pb.RegisterLeaseServer(g, whoami{})
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	reg := NewRegistry(Identity{Version: "3.7.3", ClusterVersion: "3.7.0", Build: Version, MemberID: 0xabc}, g,
		func() Stats { return Stats{Revision: 42, DBSize: 1 << 20} }, NewDiskMetrics())
	go func() {
		r.done <- s.Serve(ctx, Options{
			GRPC: g, Log: log,
			HTTP: HTTPOptions{
				Health: r.health, Versions: Versions{"3.7.3", "3.7.0", "3.7.0"}, Metrics: reg,
				Pprof: c.EnablePprof, MaxConnectionAge: c.MaxConnectionAge, HostWhitelist: c.HostWhitelist,
				CORS: c.CORS, Log: log,
			},
			Drain: func(context.Context) { close(r.watch.drained) },
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-r.done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// url is the i-th URL listened on.
func (r *running) url(i int) string { return r.listeners[i].urls[0] }

func (r *running) dial(t *testing.T, i int) *grpc.ClientConn {
	t.Helper()
	target := strings.TrimPrefix(r.url(i), "http://")
	cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// answer is an HTTP answer as tests compare it.
type answer struct {
	Code int
	Body string
}

func request(t *testing.T, method, url string, change func(*http.Request)) (answer, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, string(body)}, resp.Header
}

func TestOnePort(t *testing.T) {
	r := start(t, nil)
	cc := r.dial(t, 0)
	if resp, err := pb.NewKVClient(cc).Put(t.Context(), &pb.PutRequest{}); err != nil || resp.Header.Revision != 7 {
		t.Fatal(resp, err)
	}
	if got, _ := request(t, "GET", r.url(0)+"/version", nil); got != (answer{
		200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`,
	}) {
		t.Error(got)
	}
	h, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || h.Status != healthpb.HealthCheckResponse_SERVING {
		t.Error(h, err)
	}
}

func TestHTTPEndpoints(t *testing.T) {
	r := start(t, func(c *serverSettings) { c.HostWhitelist = []string{"127.0.0.1", "allowed.test"} })
	nospace := []*pb.AlarmMember{{MemberID: 5, Alarm: pb.AlarmType_NOSPACE}}
	corrupt := []*pb.AlarmMember{{MemberID: 5, Alarm: pb.AlarmType_CORRUPT}}
	no := errors.New("no")
	for _, c := range []struct {
		name         string
		alarms       []*pb.AlarmMember
		lin, ser     error
		method, path string
		host         string
		want         answer
	}{
		{name: "healthy", path: "/health", want: answer{200, `{"health":"true","reason":""}`}},
		{name: "head", method: "HEAD", path: "/health", want: answer{405, ""}},
		{name: "post", method: "POST", path: "/health", want: answer{405, "Method Not Allowed\n"}},
		{name: "alarm", alarms: nospace, path: "/health", want: answer{503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"}},
		{name: "alarm excluded", alarms: nospace, path: "/health?exclude=NOSPACE", want: answer{200, `{"health":"true","reason":""}`}},
		{name: "other alarm", alarms: corrupt, path: "/health?exclude=NOSPACE&exclude=", want: answer{503, `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"}},
		{name: "no read", lin: no, path: "/health", want: answer{503, `{"health":"false","reason":"RANGE ERROR:no"}` + "\n"}},
		{name: "serializable", lin: no, path: "/health?serializable=true", want: answer{200, `{"health":"true","reason":""}`}},
		{name: "alive", lin: no, path: "/livez", want: answer{200, "ok\n"}},
		{name: "alive verbose", path: "/livez?verbose", want: answer{200, "[+]serializable_read ok\nok\n"}},
		{name: "dead", ser: no, path: "/livez", want: answer{503, "[-]serializable_read failed: no\n\n"}},
		{name: "excluded", ser: no, path: "/livez?exclude=serializable_read&exclude=other", want: answer{200, "ok\n"}},
		{name: "sub path", path: "/livez/serializable_read", want: answer{200, "ok\n"}},
		{name: "no such sub path", path: "/livez/linearizable_read", want: answer{404, "404 page not found\n"}},
		{name: "ready", alarms: nospace, path: "/readyz", want: answer{200, "ok\n"}},
		{name: "ready verbose", path: "/readyz?verbose=", want: answer{200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"}},
		{name: "unready", alarms: corrupt, lin: no, path: "/readyz", want: answer{503, "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[-]linearizable_read failed: no\n[+]non_learner ok\n\n"}},
		{name: "ready sub path", path: "/readyz/linearizable_read?verbose", want: answer{200, "[+]linearizable_read ok\nok\n"}},
		{name: "post version", method: "POST", path: "/version", want: answer{405, "Method Not Allowed\n"}},
		{name: "unknown", path: "/v2/keys", want: answer{404, "404 page not found\n"}},
		{name: "root", path: "/", want: answer{404, "404 page not found\n"}},
		{name: "pprof is off", path: "/debug/pprof/", want: answer{404, "404 page not found\n"}},
		{name: "no gateway", method: "POST", path: "/v3/kv/range", want: answer{404, "404 page not found\n"}},
		{name: "options", method: "OPTIONS", path: "/health", want: answer{200, ""}},
		{name: "allowed host", host: "allowed.test:99", path: "/livez", want: answer{200, "ok\n"}},
		{name: "other host", host: "rebound.test", path: "/livez", want: answer{421, "The Host header \"rebound.test\" is not in --host-whitelist (protection from DNS rebinding, CVE-2018-5702).\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.health.set(c.alarms, c.lin, c.ser)
			method := c.method
			if method == "" {
				method = "GET"
			}
			got, header := request(t, method, r.url(0)+c.path, func(r *http.Request) { r.Host = c.host })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if origin := header.Get("Access-Control-Allow-Origin"); origin != "*" && got.Code != 421 {
				t.Errorf("CORS origin %q", origin)
			}
		})
	}
	got, _ := request(t, "GET", r.url(0)+"/debug/vars", nil)
	if !json.Valid([]byte(got.Body)) {
		t.Error(got)
	}
}

func TestMetrics(t *testing.T) {
	r := start(t, func(c *serverSettings) {
		c.Metrics = []string{"http://127.0.0.1:0"}
		c.EnablePprof, c.ExtensiveMetrics = true, true
	})
	kv := pb.NewKVClient(r.dial(t, 0))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "client-api-version", "3.7")
	if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Range(t.Context(), &pb.RangeRequest{}); status.Code(err) != codes.NotFound {
		t.Fatal(err)
	}
	// The counters are those of requests that have been answered, so they are there when the client has its answer.
	got, _ := request(t, "GET", r.url(1)+"/metrics", nil)
	for _, want := range []string{
		"etcd_server_has_leader 1",
		"etcd_server_is_leader 1",
		"etcd_debugging_mvcc_current_revision 42",
		"etcd_mvcc_db_total_size_in_bytes 1.048576e+06",
		`etcd_server_version{server_version="3.7.3"} 1`,
		`etcd_cluster_version{cluster_version="3.7.0"} 1`,
		`etcd_server_id{server_id="abc"} 1`,
		`grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="NotFound",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0`,
		`grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`etcd_server_client_requests_total{client_api_version="3.7",type="unary"} 1`,
		`etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 1`,
		"etcd_network_client_grpc_received_bytes_total 3",
		"etcd_network_client_grpc_sent_bytes_total 4",
		"etcd_disk_wal_fsync_duration_seconds_count 0",
		"process_resident_memory_bytes ",
		"go_goroutines ",
	} {
		if !strings.Contains(got.Body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if got.Code != 200 || t.Failed() {
		t.Log(got.Body)
	}
	for path, code := range map[string]int{"/health": 200, "/readyz": 200, "/version": 404} {
		if got, _ := request(t, "GET", r.url(1)+path, nil); got.Code != code {
			t.Errorf("%s on the metrics URL: %v", path, got)
		}
	}
	if got, _ := request(t, "GET", r.url(0)+"/debug/pprof/cmdline", nil); got.Code != 200 {
		t.Error(got)
	}
}

func TestClientAPIVersion(t *testing.T) {
	r := start(t, nil)
	// grpc-go's client sends only printable metadata, so the tap is asked by hand in TestTap; here a valid one passes.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "client-api-version", "3.7", "hasleader", "true")
	if _, err := pb.NewKVClient(r.dial(t, 0)).Put(ctx, &pb.PutRequest{}); err != nil {
		t.Error(err)
	}
}

func TestRequestTooLarge(t *testing.T) {
	r := start(t, func(c *serverSettings) { c.MaxRequestBytes = 1000 })
	kv := pb.NewKVClient(r.dial(t, 0))
	_, err := kv.Put(t.Context(), &pb.PutRequest{Value: make([]byte, 1000+requestOverhead)})
	if status.Code(err) != codes.ResourceExhausted ||
		!strings.Contains(err.Error(), fmt.Sprintf("vs. %d)", 1000+requestOverhead)) {
		t.Error(err)
	}
	if _, err := kv.Put(t.Context(), &pb.PutRequest{Value: make([]byte, requestOverhead)}); err != nil {
		t.Error(err)
	}
}

// TestStopWithWatchers: streams that would never end do so with Unavailable, and new connections are refused.
func TestStopWithWatchers(t *testing.T) {
	r := start(t, nil)
	s, err := pb.NewWatchClient(r.dial(t, 0)).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	r.done <- <-r.done
	if c, err := net.Dial("tcp", strings.TrimPrefix(r.url(0), "http://")); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

func TestSplitHTTP(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "s")
	r := start(t, func(c *serverSettings) {
		c.Client = []string{"http://127.0.0.1:0", "unix://" + sock}
		c.HTTP = []string{"http://127.0.0.1:0"}
	})
	for i := range 2 {
		if _, err := pb.NewKVClient(r.dial(t, i)).Put(t.Context(), &pb.PutRequest{}); err != nil {
			t.Error(err)
		}
	}
	if got, _ := request(t, "GET", r.url(2)+"/livez", nil); got.Code != 200 {
		t.Error(got)
	}
	if diff := cmp.Diff([]string{r.url(0), "unix://" + sock}, r.AdvertisedURLs()); diff != "" {
		t.Error(diff)
	}
}

func TestListenErrors(t *testing.T) {
	r := start(t, nil)
	dir := t.TempDir()
	for _, c := range []struct{ url, want string }{
		{r.url(0), "cannot listen on " + r.url(0) + ": address already in use"},
		{"unix://" + dir, "cannot listen on unix://" + dir + ": the file exists and is not a socket"},
		{"http://192.0.2.1:1", "cannot listen on http://192.0.2.1:1: "},
	} {
		cfg := []string{"http://127.0.0.1:0", c.url}
		if s, err := Listen(t.Context(), Sockets{Client: cfg}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got  %v\nwant %s", err, c.want)
			if err == nil {
				s.Close()
			}
		}
	}
}

func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := []string{"unix://" + path}
	if _, err := Listen(t.Context(), Sockets{Client: cfg}); err == nil ||
		!strings.HasSuffix(err.Error(), "address already in use") {
		t.Error(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := Listen(t.Context(), Sockets{Client: cfg})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// TestAdvertised: who listens everywhere tells clients an address of the host. On loopback only those of the same
// machine, or container, would find it.
func TestAdvertised(t *testing.T) {
	cfg := []string{"http://0.0.0.0:0", "http://127.0.0.1:0"}
	s, err := Listen(t.Context(), Sockets{Client: cfg})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	urls := s.AdvertisedURLs()
	if len(urls) != 2 || !strings.HasPrefix(urls[0], "http://"+net.JoinHostPort(HostAddress(), "")) ||
		!strings.HasPrefix(urls[1], "http://127.0.0.1:") || strings.HasSuffix(urls[1], ":0") {
		t.Error(urls)
	}
}
