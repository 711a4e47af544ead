package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/timing"
)

// Options are the values of etcd's flags --distributed-tracing-….
type Options struct {
	Enabled     bool
	Address     string // host:port of the collector's OTLP over gRPC, without TLS as in etcd
	ServiceName string
	InstanceID  string // "": none
	// PerMillion is how many of a million requests without a client's span are sampled. A request with a client's span
	// is sampled if that span is.
	PerMillion int
}

// perMillionMax is the largest value of PerMillion.
const perMillionMax = 1_000_000

// closeTimeout bounds how long Close waits until the collector has taken the last spans.
const closeTimeout = time.Second

// Validate checks the options. Its error names the flag.
func (o Options) Validate() error {
	if o.Enabled && (o.PerMillion < 0 || o.PerMillion > perMillionMax) {
		return fmt.Errorf("--distributed-tracing-sampling-rate must be 0 to %d", perMillionMax)
	}
	return nil
}

// Tracer makes spans and sends them.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	writes   writes
}

// New returns a Tracer. It does not wait for the collector, which may come and go. Spans that the collector does not
// take are reported to log, like all errors of OpenTelemetry in this process.
func New(ctx context.Context, o Options, log *slog.Logger) (*Tracer, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing reports an error", "error", err) }))
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(o.Address))
	if err != nil {
		return nil, fmt.Errorf("--distributed-tracing-address: %w", err)
	}
	return newTracer(o, sdk.WithBatcher(exporter)), nil
}

func newTracer(o Options, export sdk.TracerProviderOption) *Tracer {
	about := []attribute.KeyValue{attribute.String("service.name", o.ServiceName)}
	if o.InstanceID != "" {
		about = append(about, attribute.String("service.instance.id", o.InstanceID))
	}
	sampler := sdk.NeverSample()
	if o.PerMillion > 0 {
		sampler = sdk.TraceIDRatioBased(float64(o.PerMillion) / perMillionMax)
	}
	p := sdk.NewTracerProvider(
		export,
		sdk.WithResource(resource.NewSchemaless(about...)),
		sdk.WithSampler(sdk.ParentBased(sampler)),
	)
	return &Tracer{provider: p, tracer: p.Tracer("github.com/headwaterdb/headwater")}
}

// ServerOption returns the option with which a gRPC server begins and ends the spans of requests.
func (t *Tracer) ServerOption() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(
			propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
		),
	))
}

// Ended adds the stages of a request to its span, if that is sampled. The request began at begin and has just ended.
func (t *Tracer) Ended(ctx context.Context, begin time.Time) {
	span := trace.SpanFromContext(ctx)
	stages := timing.From(ctx)
	if !span.IsRecording() || stages == nil {
		return
	}
	at := begin
	committed := time.Time{}
	for stage := range timing.Count {
		d := stages.Of(stage)
		if d == 0 {
			continue
		}
		end := at.Add(d)
		t.child(ctx, stage.String(), at, end)
		if at = end; stage == timing.Commit {
			committed = end
		}
	}
	if rev := stages.Revision(); rev > 0 {
		span.SetAttributes(attribute.Int64("etcd.revision", rev))
		for _, d := range t.writes.wrote(write{rev: rev, span: span.SpanContext(), committed: committed}) {
			t.fanOut(span.SpanContext(), committed, d)
		}
	}
}

// Delivered says that a stream has just been given the events that it watches, of the revisions from first to last.
func (t *Tracer) Delivered(first, last int64) {
	d := delivery{first: first, last: last, at: time.Now()}
	for _, w := range t.writes.delivered(d) {
		t.fanOut(w.span, w.committed, d)
	}
}

func (t *Tracer) fanOut(parent trace.SpanContext, from time.Time, d delivery) {
	ctx := trace.ContextWithSpanContext(context.Background(), parent)
	t.child(ctx, "fan-out", from, d.at)
}

// child makes a child span that has ended.
func (t *Tracer) child(ctx context.Context, name string, from, to time.Time) {
	if to.Before(from) {
		to = from // stages are measured, and laid end to end
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(from))
	span.End(trace.WithTimestamp(to))
}

// Close sends the remaining spans, as far as the collector takes them within closeTimeout, and ends the Tracer.
func (t *Tracer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}
