package timing

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStages(t *testing.T) {
	var s Stages
	if From(t.Context()) != nil {
		t.Error("nobody looks")
	}
	From(t.Context()).Add(Queue, time.Second)
	ctx := context.WithValue(t.Context(), Key{}, &s)
	From(ctx).Add(Queue, time.Second)
	From(ctx).Add(Queue, time.Millisecond)
	From(ctx).Add(Commit, 2*time.Second)
	From(ctx).Add(Evaluation, -time.Second)
	if got := s.Of(Queue); got != 1001*time.Millisecond {
		t.Error(got)
	}
	want := []string{"queue=1.001s", "commit=2s", "answering=999ms"}
	if diff := cmp.Diff(want, texts(s.Attrs(4*time.Second))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[:2], texts(s.Attrs(3*time.Second))); diff != "" {
		t.Error("writes at the same time:", diff)
	}
}

// TestNames: each stage has a name of its own.
func TestNames(t *testing.T) {
	seen := map[string]bool{"": true}
	for i := range Count {
		if seen[i.String()] {
			t.Errorf("%d: %q", i, i)
		}
		seen[i.String()] = true
	}
}

func texts(attrs []slog.Attr) (all []string) {
	for _, a := range attrs {
		all = append(all, a.String())
	}
	return all
}
