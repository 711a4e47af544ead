package tracing

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/headwaterdb/headwater/libs/timing"
)

// spans are what a request's span has as children: name, offset of begin and end.
func children(spans []sdk.ReadOnlySpan, begin time.Time) (all []string) {
	for _, s := range spans {
		if s.Parent().IsValid() {
			all = append(all, s.Name()+" "+s.StartTime().Sub(begin).String()+" "+s.EndTime().Sub(begin).String())
		}
	}
	return all
}

func TestStagesAreChildren(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tr := newTracer(Options{PerMillion: perMillionMax}, sdk.WithSpanProcessor(recorder))
	begin := time.Now()
	stages := &timing.Stages{}
	stages.Add(timing.Receiving, time.Second)
	stages.Add(timing.Evaluation, 2*time.Second)
	stages.Add(timing.Commit, 3*time.Second)
	stages.Add(timing.Publish, time.Second)
	stages.Made(7)
	ctx, span := tr.tracer.Start(context.WithValue(t.Context(), timing.Key{}, stages), "Put")
	tr.Ended(ctx, begin)
	span.End()
	want := []string{"receiving 0s 1s", "evaluation 1s 3s", "commit 3s 6s", "publish 6s 7s"}
	if diff := cmp.Diff(want, children(recorder.Ended(), begin)); diff != "" {
		t.Error(diff)
	}
	for _, s := range recorder.Ended() {
		if s.Name() != "Put" && s.Parent().SpanID() != span.SpanContext().SpanID() {
			t.Errorf("%s is not a child of the request", s.Name())
		}
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}

// TestFanOut: a delivery becomes a child of the write that it carries, whichever is known first, and of no other.
func TestFanOut(t *testing.T) {
	for _, deliveredFirst := range []bool{false, true} {
		recorder := tracetest.NewSpanRecorder()
		tr := newTracer(Options{PerMillion: perMillionMax}, sdk.WithSpanProcessor(recorder))
		wrote := func(rev int64) {
			stages := &timing.Stages{}
			stages.Made(rev)
			ctx, span := tr.tracer.Start(context.WithValue(t.Context(), timing.Key{}, stages), "Put")
			tr.Ended(ctx, time.Now())
			span.End()
		}
		if deliveredFirst {
			tr.Delivered(5, 7)
		}
		wrote(4)
		wrote(7)
		wrote(8)
		if !deliveredFirst {
			tr.Delivered(5, 7)
		}
		var parents []int64
		for _, s := range recorder.Ended() {
			for _, w := range tr.writes.writes.all {
				if s.Name() == "fan-out" && s.Parent().SpanID() == w.span.SpanID() {
					parents = append(parents, w.rev)
				}
			}
		}
		if diff := cmp.Diff([]int64{7}, parents); diff != "" {
			t.Errorf("delivered first: %v: %s", deliveredFirst, diff)
		}
	}
}

// TestNotSampled: what is not sampled is not remembered, and has no children.
func TestNotSampled(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tr := newTracer(Options{}, sdk.WithSpanProcessor(recorder))
	stages := &timing.Stages{}
	stages.Made(3)
	ctx, span := tr.tracer.Start(context.WithValue(t.Context(), timing.Key{}, stages), "Put")
	tr.Ended(ctx, time.Now())
	span.End()
	if n := len(recorder.Ended()) + len(tr.writes.writes.all); n != 0 {
		t.Errorf("%d spans and writes", n)
	}
}

// TestBounds: the oldest are forgotten, and a write that many watch has so many spans.
func TestBounds(t *testing.T) {
	var w writes
	for rev := range int64(3 * writesMax) {
		w.wrote(write{rev: rev})
		w.delivered(delivery{first: -1, last: -1})
	}
	if len(w.writes.all) != writesMax || len(w.deliveries.all) != deliveriesMax {
		t.Errorf("%d writes and %d deliveries", len(w.writes.all), len(w.deliveries.all))
	}
	newest := int64(3*writesMax - 1)
	if got := w.delivered(delivery{first: 0, last: 0}); len(got) != 0 {
		t.Error("an old write is remembered")
	}
	n := 0
	for range 2 * fanOutMax {
		n += len(w.delivered(delivery{first: newest, last: newest}))
	}
	if n != fanOutMax {
		t.Errorf("%d spans of one write, want %d", n, fanOutMax)
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		o  Options
		ok bool
	}{
		{Options{Enabled: true, PerMillion: perMillionMax}, true},
		{Options{Enabled: true, PerMillion: -1}, false},
		{Options{Enabled: true, PerMillion: perMillionMax + 1}, false},
		{Options{PerMillion: -1}, true},
	} {
		if err := c.o.Validate(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
