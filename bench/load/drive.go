package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const unitRequests = "requests"

// Worker is one concurrent client. Its fields belong to the goroutine that runs it.
type worker struct {
	id     int
	client *clientv3.Client
	rand   *rand.Rand
	state  any // of the load
}

// done is what a request did. Only ok requests reach the histograms.
type done struct {
	kind      int   // index into load.kinds
	units     int64 // work done
	writes    int64 // revisions made
	conflicts int64
}

// workload is one kind of load: how to prepare it and how to make request n.
type workload struct {
	name  string
	unit  string
	kinds []string
	// prepare runs before the warm-up; setup once in each worker after it. Either may be nil.
	prepare func(ctx context.Context, conns []*clientv3.Client) error
	setup   func(ctx context.Context, w *worker) error
	request func(ctx context.Context, w *worker, n int64) (done, error)
}

// tally counts over the whole run.
type tally struct {
	errors, writes, conflicts atomic.Int64
	first                     atomic.Pointer[string]
}

func (t *tally) fail(err error) {
	t.errors.Add(1)
	s := err.Error()
	t.first.CompareAndSwap(nil, &s)
}

// drive runs the workload and returns what it measured. An error means that there is no result; failed requests are
// in the result.
func drive(ctx context.Context, o Options, l workload) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	conns, err := dial(o)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(conns)
	if l.prepare != nil {
		if err := l.prepare(ctx, conns); err != nil {
			return Result{}, fmt.Errorf("prepare: %w", err)
		}
	}
	workers, err := newWorkers(ctx, o, conns, l)
	if err != nil {
		return Result{}, err
	}
	before, err := connect(ctx, conns)
	if err != nil {
		return Result{}, err
	}
	run := &run{o: o, l: l, rec: newRecorder(l.kinds), started: time.Now()}
	res, err := run.all(ctx, workers)
	if err != nil {
		return Result{}, err
	}
	after, err := connect(ctx, conns[:1])
	if err != nil {
		return Result{}, err
	}
	res.Revisions = after - before
	if o.Verify && res.Errors == 0 && res.Revisions != res.Writes {
		return res, fmt.Errorf("the server acknowledged %d writes but its revision moved by %d", res.Writes,
			res.Revisions)
	}
	return res, ctx.Err()
}

// newWorkers makes the workers and runs their set-up, all at once.
func newWorkers(ctx context.Context, o Options, conns []*clientv3.Client, l workload) ([]*worker, error) {
	workers := make([]*worker, o.Clients)
	errs := make([]error, o.Clients)
	var wg sync.WaitGroup
	for i := range workers {
		w := &worker{id: i, client: conns[i%len(conns)], rand: rand.New(rand.NewPCG(o.Seed, uint64(i)))}
		workers[i] = w
		if l.setup != nil {
			wg.Go(func() { errs[i] = l.setup(ctx, w) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("set-up: %w", err)
	}
	return workers, nil
}

// connect makes one request over each connection, so that the window holds no dialling, and returns the server's
// revision.
func connect(ctx context.Context, conns []*clientv3.Client) (rev int64, err error) {
	for _, c := range conns {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := c.Get(ctx, RevisionKey, clientv3.WithCountOnly())
		cancel()
		if err != nil {
			return 0, fmt.Errorf("connect: %w", err)
		}
		rev = resp.Header.Revision
	}
	return rev, nil
}

// run is one run of a workload.
type run struct {
	o       Options
	l       workload
	rec     *recorder
	tally   tally
	started time.Time
	next    atomic.Int64 // number of the next request
}

// window returns the limits of the window; end is zero when Total ends the run.
func (r *run) window() (begin, end time.Time) {
	begin = r.started.Add(r.o.Warmup)
	if r.o.Duration > 0 {
		end = begin.Add(r.o.Duration)
	}
	return begin, end
}

func (r *run) all(ctx context.Context, workers []*worker) (Result, error) {
	begin, end := r.window()
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { r.loop(ctx, w) })
	}
	var m Meter
	sleepUntil(ctx, begin)
	err := m.Start(r.o.ServerPID)
	if !end.IsZero() {
		sleepUntil(ctx, end)
		err = errors.Join(err, m.Stop())
	}
	wg.Wait()
	if end.IsZero() {
		err = errors.Join(err, m.Stop())
	}
	// An open loop that fell behind ends when its last request is answered.
	if now := time.Now(); end.IsZero() || r.o.Rate > 0 && now.After(end) {
		end = now
	}
	return r.result(end.Sub(begin), &m), err
}

// loop is the life of one worker.
func (r *run) loop(ctx context.Context, w *worker) {
	begin, end := r.window()
	g := newGuard(ctx)
	defer g.stop()
	for g.ctx.Err() == nil {
		n := r.next.Add(1) - 1
		if end.IsZero() && n >= r.o.Total {
			return
		}
		due := time.Now()
		if r.o.Rate > 0 {
			due = r.started.Add(time.Duration(float64(n) / r.o.Rate * float64(time.Second)))
		}
		if !end.IsZero() && !due.Before(end) {
			return
		}
		g.pause()
		sleepUntil(ctx, due)
		g.arm()
		d, err := r.l.request(g.ctx, w, n)
		answered := time.Now()
		if err != nil {
			if ctx.Err() == nil {
				r.tally.fail(g.cause(err))
			}
			continue
		}
		r.tally.writes.Add(d.writes)
		r.tally.conflicts.Add(d.conflicts)
		if r.counts(due, answered, begin, end) {
			r.rec.record(w.id, d.kind, answered.Sub(due), d.units)
		}
	}
}

// counts says whether a request belongs to the window (package comment, "Time").
func (r *run) counts(due, answered, begin, end time.Time) bool {
	at := answered
	if r.o.Rate > 0 {
		at = due
	}
	return !at.Before(begin) && (end.IsZero() || at.Before(end))
}

// guard bounds the requests of one goroutine without giving them a deadline: a deadline travels with each request and
// costs both sides of every request, which etcd's tool does not ask of a server. A request that runs into the bound
// ends the guard's context for good.
type guard struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

var errUnanswered = fmt.Errorf("no answer within %v", requestTimeout)

func newGuard(ctx context.Context) *guard {
	g := &guard{}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	g.timer = time.AfterFunc(requestTimeout, func() { g.cancel(errUnanswered) })
	return g
}

// pause stops the time between requests.
func (g *guard) pause() { g.timer.Stop() }

// arm starts the time of the next request.
func (g *guard) arm() { g.timer.Reset(requestTimeout) }

// cause returns why a request failed with err.
func (g *guard) cause(err error) error {
	if cause := context.Cause(g.ctx); errors.Is(cause, errUnanswered) {
		return cause
	}
	return err
}

func (g *guard) stop() {
	g.timer.Stop()
	g.cancel(nil)
}

func (r *run) result(window time.Duration, m *Meter) Result {
	ls, ops, units := r.rec.sum()
	res := Result{
		Command: r.l.name, Window: window, Ops: ops, Unit: r.l.unit, Units: units, Latencies: ls,
		Rate: perSecond(ops, window), PerSec: perSecond(units, window),
		Errors: r.tally.errors.Load(), Writes: r.tally.writes.Load(), Conflicts: r.tally.conflicts.Load(),
	}
	if s := r.tally.first.Load(); s != nil {
		res.FirstError = *s
	}
	res.Server = m.Used(res.PerSec)
	return res
}

func perSecond(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

func sleepUntil(ctx context.Context, t time.Time) {
	d := time.Until(t)
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
