package tracing

import (
	"context"
	"encoding/hex"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
	"github.com/headwaterdb/headwater/libs/config"
)

// sink is a collector that keeps the spans.
type sink struct {
	collector.UnimplementedTraceServiceServer
	mu       sync.Mutex
	services []string
	spans    []*otlp.Span
}

// Export implements the collector's service.
func (s *sink) Export(_ context.Context,
	r *collector.ExportTraceServiceRequest,
) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			s.services = append(s.services, a.GetKey()+"="+a.GetValue().GetStringValue())
		}
		for _, scope := range resource.GetScopeSpans() {
			s.spans = append(s.spans, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// children returns the names of the spans below one, with how often each occurs.
func (s *sink) children(of *otlp.Span) map[string]int {
	names := map[string]int{}
	for _, span := range s.spans {
		if string(span.GetParentSpanId()) == string(of.GetSpanId()) {
			names[span.GetName()]++
		}
	}
	return names
}

func (s *sink) named(name string) (all []*otlp.Span) {
	for _, span := range s.spans {
		if span.GetName() == name {
			all = append(all, span)
		}
	}
	return all
}

// served starts a collector and a server that sends its spans there, lets f use the server, stops it, and returns the
// collector.
func served(t *testing.T, args []string, f func(ctx context.Context, c *clientv3.Client)) *sink {
	t.Helper()
	s := &sink{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	collector.RegisterTraceServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	defer g.Stop()
	p, err := config.Standalone.Parse(append(args, "--distributed-tracing-address="+l.Addr().String(),
		"--distributed-tracing-service-name=hw", "--distributed-tracing-instance-id=one",
		"--data-dir="+t.TempDir(), "--listen-client-urls=http://127.0.0.1:0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	server, err := compose.Start(ctx, config.Standalone, p.Config, embedded.Parts(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{server.URL()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	f(ctx, c)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	return s
}

func use(t *testing.T) func(ctx context.Context, c *clientv3.Client) {
	return func(ctx context.Context, c *clientv3.Client) {
		events := c.Watch(ctx, "k", clientv3.WithCreatedNotify())
		<-events
		if _, err := c.Put(ctx, "k", "v"); err != nil {
			t.Error(err)
		}
		if got := <-events; len(got.Events) != 1 {
			t.Errorf("%+v", got)
		}
		if _, err := c.Get(ctx, "k"); err != nil {
			t.Error(err)
		}
	}
}

// TestSpans: below the span of a write are its stages and the fan-out to watchers.
func TestSpans(t *testing.T) {
	s := served(t, []string{"--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000000"}, use(t))
	puts := s.named("etcdserverpb.KV/Put")
	if len(puts) != 1 || len(s.named("etcdserverpb.KV/Range")) != 1 {
		t.Fatalf("%d spans of puts among %d", len(puts), len(s.spans))
	}
	below := s.children(puts[0])
	for _, name := range []string{"receiving", "queue", "evaluation", "commit", "publish", "fan-out"} {
		if below[name] != 1 {
			t.Errorf("%d times %s below the put: %v", below[name], name, below)
		}
	}
	for _, want := range []string{"service.name=hw", "service.instance.id=one"} {
		if !slices.Contains(s.services, want) {
			t.Errorf("no %s among %q", want, s.services)
		}
	}
}

// TestParent: without a sampling rate a request is sampled if its client's span is, and its span is a child of that
// span.
func TestParent(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	s := served(t, []string{"--enable-distributed-tracing"}, func(ctx context.Context, c *clientv3.Client) {
		for _, sampled := range []string{"01", "00"} {
			with := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace+"-"+span+"-"+sampled)
			if _, err := c.Put(with, "k", "v"); err != nil {
				t.Error(err)
			}
		}
		if _, err := c.Put(ctx, "k", "v"); err != nil {
			t.Error(err)
		}
	})
	puts := s.named("etcdserverpb.KV/Put")
	if len(puts) != 1 {
		t.Fatalf("%d spans of puts, want that of the sampled one", len(puts))
	}
	if hex.EncodeToString(puts[0].GetTraceId()) != trace || hex.EncodeToString(puts[0].GetParentSpanId()) != span {
		t.Error("the span is not a child of the client's")
	}
}

// TestOff: without the flags the server sends nothing.
func TestOff(t *testing.T) {
	for _, args := range [][]string{nil, {"--enable-distributed-tracing"}} {
		if s := served(t, args, use(t)); len(s.spans) > 0 {
			t.Errorf("%q: %d spans", args, len(s.spans))
		}
	}
}
