package compose

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/porttest"
)

// away is an engine that cannot be reached for a while, or that fails in another way.
type away struct {
	engine.Store
	err    atomic.Pointer[error] // nil: it is there
	failed chan struct{}         // gets something for each call that failed
}

func newAway(t *testing.T, err error) *away {
	a := &away{Store: testEngine(t), failed: make(chan struct{}, 1)}
	a.err.Store(&err)
	return a
}

func (a *away) fail() error {
	err := a.err.Load()
	if err == nil {
		return nil
	}
	select {
	case a.failed <- struct{}{}:
	default:
	}
	return *err
}

func (a *away) Begin(ctx context.Context) (engine.Txn, error) {
	if err := a.fail(); err != nil {
		return nil, err
	}
	return a.Store.Begin(ctx)
}

func (a *away) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	if err := a.fail(); err != nil {
		return nil, err
	}
	return a.Store.Snapshot(ctx)
}

// lines keeps the messages of a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }
func (l *lines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r.Message)
	return nil
}

func (l *lines) count(what string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if strings.Contains(s, what) {
			n++
		}
	}
	return n
}

// metric is the value of a metric without labels; "": there is none.
func metric(t *testing.T, url, name string) string {
	t.Helper()
	r, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestStartWaits: a pod whose store is away waits for it, and says so to everybody, to the log once.
func TestStartWaits(t *testing.T) {
	eng, log := newAway(t, engine.ErrUnavailable), &lines{}
	c := testConfig()
	address := porttest.Addr(t) // a pod that starts does not tell where it listens
	c.ListenClientURLs = []string{"http://" + address}
	type result struct {
		p   *Server
		err error
	}
	opened := make(chan result, 1)
	go func() {
		p, err := bare(t.Context(), config.KV, c, Parts{Engine: eng, Log: slog.New(log)})
		opened <- result{p, err}
	}()
	<-eng.failed
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{},
		grpc.WaitForReady(true)); status.Code(err) != codes.Unavailable ||
		!strings.Contains(err.Error(), "the store cannot be reached: engine: unavailable") {
		t.Error(err)
	}
	for path, want := range map[string]int{
		"/readyz": http.StatusServiceUnavailable, "/livez?exclude=serializable_read": http.StatusOK,
	} {
		r, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	if leader := metric(t, "http://"+address, "etcd_server_has_leader"); leader != "0" {
		t.Errorf("a pod that waits has the leader %q", leader)
	}
	for range 3 { // it tries again
		<-eng.failed
	}
	eng.err.Store(nil)
	r := <-opened
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.p.Close()
	serveBare(t, r.p)
	r.p.SetReady(true, "")
	if code, body := readyz(t, r.p); code != http.StatusOK {
		t.Error(code, body)
	}
	for _, c := range []struct {
		store  error
		leader string
	}{{nil, "1"}, {engine.ErrUnavailable, "0"}, {nil, "1"}} {
		r.p.ready.setStore(c.store)
		if leader := metric(t, r.p.URL(), "etcd_server_has_leader"); leader != c.leader {
			t.Errorf("store %v: leader %q, want %s", c.store, leader, c.leader)
		}
	}
	if down, up := log.count("the store cannot be reached"), log.count("the store can be reached"); down != 1 ||
		up != 1 {
		t.Errorf("logged %d and %d times", down, up)
	}
}

// TestStartGivesUp: what does not pass by itself ends a start at once, and so does who wants it to end.
func TestStartGivesUp(t *testing.T) {
	for _, err := range []error{mvcc.ErrSetBack, mvcc.ErrCorrupt, engine.ErrNoSpace, errors.New("format 7")} {
		if _, got := bare(t.Context(), config.KV, testConfig(), Parts{Engine: newAway(t, err)}); !errors.Is(got, err) {
			t.Errorf("%v instead of %v", got, err)
		}
	}
	eng := newAway(t, engine.ErrUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := bare(ctx, config.KV, testConfig(), Parts{Engine: eng})
		done <- err
	}()
	<-eng.failed
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("it goes on although it was told to stop")
	}
}

// TestStartFails: an engine that fails for good while it is waited for ends the start.
func TestStartFails(t *testing.T) {
	p := openPod(t, testConfig())
	broken := errors.New("broken")
	err := p.AwaitStore(t.Context(), func(context.Context) error {
		p.Fail(broken)
		return engine.ErrUnavailable
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}
