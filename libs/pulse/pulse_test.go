package pulse

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// took is how long a Wait for a second takes.
func took(ctx context.Context, t *testing.T, p *Pulse) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := p.Wait(ctx, time.Second); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

// beating beats until the test ends.
func beating(p *Pulse, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for t := time.NewTicker(every); ; {
			select {
			case <-t.C:
				p.Beat()
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// TestWait: a wait ends with a beat if one comes at about the time, and by itself otherwise.
func TestWait(t *testing.T) {
	for _, test := range []struct {
		name  string
		every time.Duration // between two beats; 0: there are none
		want  time.Duration
	}{
		{"no beat", 0, 1500 * time.Millisecond},
		{"many beats", 100 * time.Millisecond, 800 * time.Millisecond},
		{"the beats of a time to live of 1.5 s", 375 * time.Millisecond, 1125 * time.Millisecond},
		{"a beat a second", time.Second, time.Second},
		{"few beats", 10 * time.Second, 1500 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Pulse{}
				if test.every > 0 {
					defer beating(p, test.every)()
				}
				if d := took(t.Context(), t, p); d != test.want {
					t.Errorf("%v, want %v", d, test.want)
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				if len(p.waiting) != 0 {
					t.Errorf("%d still wait", len(p.waiting))
				}
			})
		})
	}
}

// TestWithoutPulse: a nil Pulse is a timer.
func TestWithoutPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if d := took(t.Context(), t, nil); d != time.Second {
			t.Errorf("%v", d)
		}
	})
}

// TestShared: all who wait about as long go on at the same beat, also if their work takes a while.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pulse{}
		defer beating(p, 375*time.Millisecond)()
		begin := time.Now()
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				for range 10 {
					took(t.Context(), t, p)
					if at := time.Since(begin) % (375 * time.Millisecond); at != 0 {
						t.Errorf("%v after a beat", at)
					}
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
	})
}

// TestEnd: the end of the context ends a wait.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pulse{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := p.Wait(ctx, time.Second); err == nil {
			t.Error("no error")
		}
		if err := p.Wait(ctx, time.Second); err == nil {
			t.Error("no error of a context that has ended")
		}
	})
}
