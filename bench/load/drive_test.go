package load

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// serial runs a workload of one kind on n workers without any server, in virtual time.
func serial(t *testing.T, o Options, n int,
	request func(ctx context.Context, w *worker, n int64) (done, error),
) Result {
	t.Helper()
	workers := make([]*worker, n)
	for i := range workers {
		workers[i] = &worker{id: i}
	}
	l := workload{name: "test", unit: unitRequests, kinds: []string{"test"}, request: request}
	r := &run{o: o, l: l, rec: newRecorder(l.kinds), started: time.Now()}
	res, err := r.all(t.Context(), workers)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 10 * time.Millisecond
		res := serial(t, Options{Warmup: time.Second, Duration: 2 * time.Second}, 4,
			func(context.Context, *worker, int64) (done, error) {
				time.Sleep(each)
				return done{units: 3, writes: 1}, nil
			})
		// Answers that come exactly when the window begins count. Answers that come exactly when it ends do
		// not.
		if res.Ops != 800 || res.Units != 2400 || res.Rate != 400 || res.PerSec != 1200 {
			t.Errorf("ops %d, units %d, rate %v, %v/s; want 800, 2400, 400, 1200", res.Ops, res.Units, res.Rate,
				res.PerSec)
		}
		if res.Writes != 1200 {
			t.Errorf("writes %d; want 1200, including those of the warm-up", res.Writes)
		}
		if p := res.Latencies[0].P50; p < each || p > each+each/100 {
			t.Errorf("p50 %v, want %v", p, each)
		}
	})
}

// TestOpenLoop checks that the latency of requests includes the time for which they waited behind a stalled one.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = 500 * time.Millisecond
		res := serial(t, Options{Duration: time.Second, Rate: 1000}, 1,
			func(_ context.Context, _ *worker, n int64) (done, error) {
				if n == 100 {
					time.Sleep(stall)
				}
				return done{units: 1}, nil
			})
		if res.Ops != 1000 || res.Rate != 1000 {
			t.Errorf("ops %d, rate %v; want 1000, 1000", res.Ops, res.Rate)
		}
		// Requests 100 … 599 waited 500, 499, … ms: half of all.
		if l := res.Latencies[0]; l.Max < stall || l.P90 < 390*time.Millisecond || l.P90 > 410*time.Millisecond {
			t.Errorf("latency %+v; the stall was omitted", l)
		}
	})
}

// TestOpenLoopBehind checks that a server too slow for the rate shows its own rate.
func TestOpenLoopBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		res := serial(t, Options{Duration: time.Second, Rate: 1000}, 1,
			func(context.Context, *worker, int64) (done, error) {
				time.Sleep(2 * time.Millisecond)
				return done{units: 1}, nil
			})
		if res.Ops != 1000 || res.Window != 2*time.Second || res.Rate != 500 {
			t.Errorf("ops %d in %v, rate %v; want 1000 in 2s, 500", res.Ops, res.Window, res.Rate)
		}
	})
}

func TestTotalAndErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boom := errors.New("boom")
		res := serial(t, Options{Total: 10}, 3, func(_ context.Context, _ *worker, n int64) (done, error) {
			time.Sleep(time.Millisecond)
			if n%5 == 0 {
				return done{}, boom
			}
			return done{units: 1, writes: 1, conflicts: 1}, nil
		})
		if res.Ops != 8 || res.Writes != 8 || res.Conflicts != 8 || res.Errors != 2 || res.FirstError != "boom" {
			t.Errorf("result %+v", res)
		}
	})
}

func TestOptionsValidate(t *testing.T) {
	good := Options{Endpoints: []string{"x"}, Conns: 1, Clients: 1, Total: 1, KeySpace: 1, KeySize: 1}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, breakIt := range map[string]func(*Options){
		"endpoints":   func(o *Options) { o.Endpoints = nil },
		"conns":       func(o *Options) { o.Conns = 0 },
		"many conns":  func(o *Options) { o.Conns = connsMax + 1 },
		"clients":     func(o *Options) { o.Clients = 0 },
		"total":       func(o *Options) { o.Total = 0 },
		"warm-up":     func(o *Options) { o.Warmup = 1 },
		"rate":        func(o *Options) { o.Rate = -1 },
		"key space":   func(o *Options) { o.KeySpace = 0 },
		"value size":  func(o *Options) { o.ValSize = -1 },
		"key size":    func(o *Options) { o.KeySize = 0 },
		"prefix size": func(o *Options) { o.Prefix = "ab" },
	} {
		o := good
		breakIt(&o)
		if o.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWantEvents(t *testing.T) {
	r := &watchRun{wo: WatchOptions{Streams: 2, PerStream: 5, WatchedKeys: 3}}
	r.putsOf = make([]atomic.Int64, 3)
	for i := range r.putsOf {
		r.putsOf[i].Store(int64(10 + i))
	}
	// Ten watches on three keys: four on key 0, three on each of the others.
	if got, want := r.wantEvents(), int64(10*4+11*3+12*3); got != want {
		t.Errorf("wantEvents = %d, want %d", got, want)
	}
	r.wo.WholePrefix = true
	if got, want := r.wantEvents(), int64((10+11+12)*10); got != want {
		t.Errorf("wantEvents = %d, want %d", got, want)
	}
}
