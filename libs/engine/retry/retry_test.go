package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestPause: pauses double between the bounds, and lie between half of that and all of it, both ends included.
func TestPause(t *testing.T) {
	p := Policy{Min: 4, Max: 20}
	for n, want := range []time.Duration{4, 8, 16, 20, 20} {
		seen := map[time.Duration]bool{}
		for range 2000 {
			d := p.Pause(n)
			if d < want/2 || d > want {
				t.Fatalf("after %d failures: %v, want %v", n, d, want)
			}
			seen[d] = true
		}
		if len(seen) != int(want-want/2)+1 {
			t.Errorf("after %d failures: only %d pauses of %d", n, len(seen), want-want/2+1)
		}
	}
	if d := (Policy{Min: time.Hour, Max: 24 * time.Hour}).Pause(1 << 30); d < 12*time.Hour || d > 24*time.Hour {
		t.Errorf("far on: %v", d)
	}
}

// TestDo: attempts are bounded, refusals end at once, and the context ends a pause.
func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		passing, final := errors.New("passing"), errors.New("final")
		again := func(err error) bool { return errors.Is(err, passing) }
		p := Policy{Min: time.Second, Max: 4 * time.Second, Attempts: 5}
		calls := 0
		run := func(ctx context.Context, p Policy, errs ...error) error {
			calls = 0
			return p.Do(ctx, again, func() error {
				calls++
				return errs[min(calls, len(errs))-1]
			})
		}
		for _, test := range []struct {
			errs  []error
			want  error
			calls int
		}{
			{[]error{nil}, nil, 1},
			{[]error{passing, passing, nil}, nil, 3},
			{[]error{passing, final}, final, 2},
			{[]error{passing}, passing, 5},
		} {
			if err := run(t.Context(), p, test.errs...); !errors.Is(err, test.want) || calls != test.calls {
				t.Errorf("%v: %v after %d calls", test.errs, err, calls)
			}
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+1)
		defer cancel()
		p.Attempts = 0
		if err := run(ctx, p, passing); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(begin) != time.Hour+1 || calls < 900 {
			t.Errorf("%v after %v and %d calls", err, time.Since(begin), calls)
		}
		if err := Sleep(ctx, time.Hour); err == nil || time.Since(begin) != time.Hour+1 {
			t.Errorf("a sleep after the end: %v", err)
		}
	})
}

// TestPauses: a success begins anew.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pauses{Policy: Policy{Min: time.Second, Max: time.Hour}}
		begin := time.Now()
		for range 10 {
			if err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took < 512*time.Second {
			t.Errorf("ten failures took %v", took)
		}
		p.Reset()
		begin = time.Now()
		if err := p.Wait(t.Context()); err != nil || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}
