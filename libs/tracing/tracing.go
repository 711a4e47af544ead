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

// Options are etcd's flags --distributed-tracing-….
type Options struct {
	Enabled     bool
	Address     string // host:port of the collector's OTLP over gRPC, without TLS as in etcd
	ServiceName string
	InstanceID  string // "": none
	// PerMillion is how many of a million requests without a client's span are sampled; those with one are if it is.
	PerMillion int
}

// perMillionMax is the most that PerMillion can be.
const perMillionMax = 1_000_000

// closeTimeout bounds what Close waits for the collector to take the last spans.
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

// New returns a Tracer. It does not wait for the collector, which may come and go; what it does not take is told to
// log, as are all errors of OpenTelemetry's in this process.
func New(ctx context.Context, o Options, log *slog.Logger) (*Tracer, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", "error", err) }))
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

// ServerOption makes a gRPC server begin and end the spans of requests.
func (t *Tracer) ServerOption() grpc.ServerOption {
	return grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(
			propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
		),
	))
}

// Ended adds the stages of a request that began at begin and has just ended to its span, if it has one that is sampled.
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

// Delivered says that the events of the revisions from first to last that a stream watches have just been handed over
// to it.
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

// child makes a span that has ended.
func (t *Tracer) child(ctx context.Context, name string, from, to time.Time) {
	if to.Before(from) {
		to = from // stages are measured, and laid end to end
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(from))
	span.End(trace.WithTimestamp(to))
}

// Close sends what is left, as far as the collector takes it soon, and ends.
func (t *Tracer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}
