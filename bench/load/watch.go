package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	unitEvents = "events"
	// stampBytes is the start of each value: the nanoseconds from the start of the run to the time the put was due.
	stampBytes = 8
	// drainTimeout ends a run whose watchers have received nothing for so long although events are missing.
	drainTimeout = 30 * time.Second
	drainPoll    = time.Millisecond
)

// WatchOptions say who watches what. Options.Total and Rate are the number and rate of puts, Options.Clients how many
// send them, and the first WatchedKeys keys of the key space are the ones put.
type WatchOptions struct {
	Streams     int
	PerStream   int   // watches on each stream
	WatchedKeys int64 // watch i watches key i mod WatchedKeys
	WholePrefix bool  // each watch watches the prefix in place of one key
	PrevKV      bool
}

func (wo *WatchOptions) validate(o Options) error {
	switch {
	case wo.Streams < 1 || wo.PerStream < 1:
		return errors.New("streams and watches per stream must be positive")
	case wo.WatchedKeys < 1 || wo.WatchedKeys > o.KeySpace:
		return errors.New("watched-key-total must be in [1, key-space-size]")
	case o.ValSize < stampBytes:
		return fmt.Errorf("val-size must be at least %d: values hold the time they were sent", stampBytes)
	case o.Duration > 0:
		return errors.New("a watch load ends after its puts, not after a duration")
	}
	return o.Validate()
}

// watchRun is one run of Watch.
type watchRun struct {
	o        Options
	wo       WatchOptions
	ks       keys
	rec      *recorder
	tally    tally
	started  time.Time
	events   atomic.Int64
	last     atomic.Int64 // when the last event came, in nanoseconds since started
	putsOf   []atomic.Int64
	watchers sync.WaitGroup
}

// Watch opens the watches, sends the puts and waits for all their events. The latency of an event is counted from the
// time its put was due to be sent (in a closed loop: was sent) to its arrival, so it holds the put's own time: it is
// what users of a watch feel. etcd's tool counts from the put's answer. An event that is missing, doubled or out of
// order is an error.
func Watch(ctx context.Context, o Options, wo WatchOptions, name string) (Result, error) {
	if err := wo.validate(o); err != nil {
		return Result{}, err
	}
	ks, err := newKeys(o.Prefix, o.KeySize, o.KeySpace)
	if err != nil {
		return Result{}, err
	}
	conns, err := dial(o)
	if err != nil {
		return Result{}, err
	}
	defer closeAll(conns)
	before, err := connect(ctx, conns)
	if err != nil {
		return Result{}, err
	}
	r := &watchRun{
		o: o, wo: wo, ks: ks, rec: newRecorder([]string{kindPut, "event"}),
		putsOf: make([]atomic.Int64, wo.WatchedKeys), started: time.Now(),
	}
	watchCtx, cancel := context.WithCancel(ctx)
	defer r.watchers.Wait()
	defer cancel()
	if err := r.watch(watchCtx, conns); err != nil {
		return Result{}, err
	}
	res, err := r.run(ctx, conns)
	if err != nil {
		return Result{}, err
	}
	res.Command, res.Revisions = name, 0
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

// watch opens the watches, all streams at once, and starts their readers.
func (r *watchRun) watch(ctx context.Context, conns []*clientv3.Client) error {
	errs := make([]error, r.wo.Streams)
	var wg sync.WaitGroup
	for s := range r.wo.Streams {
		wg.Go(func() {
			stream := clientv3.NewWatcher(conns[s%len(conns)])
			context.AfterFunc(ctx, func() { _ = stream.Close() }) // reports only that ctx has ended
			for i := range r.wo.PerStream {
				id := s*r.wo.PerStream + i
				ch := stream.Watch(ctx, r.watched(id), r.watchOps()...)
				if first, ok := <-ch; !ok || !first.Created {
					errs[s] = fmt.Errorf("watch %d was not created: %w", id, first.Err())
					return
				}
				r.watchers.Go(func() { r.receive(id, ch) })
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *watchRun) watched(id int) string {
	if r.wo.WholePrefix {
		return r.o.Prefix
	}
	return r.ks.at(int64(id) % r.wo.WatchedKeys)
}

func (r *watchRun) watchOps() []clientv3.OpOption {
	ops := []clientv3.OpOption{clientv3.WithCreatedNotify()}
	if r.wo.WholePrefix {
		ops = append(ops, clientv3.WithPrefix())
	}
	if r.wo.PrevKV {
		ops = append(ops, clientv3.WithPrevKV())
	}
	return ops
}

// receive reads the events of one watch until its channel is closed.
func (r *watchRun) receive(id int, ch clientv3.WatchChan) {
	var rev int64
	for resp := range ch {
		now := time.Since(r.started)
		if err := resp.Err(); err != nil && !errors.Is(err, context.Canceled) {
			r.tally.fail(fmt.Errorf("watch %d: %w", id, err))
			return
		}
		for _, ev := range resp.Events {
			if ev.Kv.ModRevision <= rev || len(ev.Kv.Value) < stampBytes {
				r.tally.fail(fmt.Errorf("watch %d: event of revision %d after %d", id, ev.Kv.ModRevision, rev))
				continue
			}
			rev = ev.Kv.ModRevision
			sent := time.Duration(binary.LittleEndian.Uint64(ev.Kv.Value))
			r.rec.record(id, 1, now-sent, 1)
			r.events.Add(1)
		}
		r.last.Store(int64(now))
	}
}

// run sends the puts and waits for the events.
func (r *watchRun) run(ctx context.Context, conns []*clientv3.Client) (Result, error) {
	var m Meter
	if err := m.Start(r.o.ServerPID); err != nil {
		return Result{}, err
	}
	begin := time.Now()
	r.put(ctx, conns, begin)
	r.drain(ctx)
	if err := m.Stop(); err != nil {
		return Result{}, err
	}
	window := r.started.Add(time.Duration(r.last.Load())).Sub(begin)
	ls, _, events := r.rec.sum()
	puts := ls[0].Count
	res := Result{
		Window: window, Ops: puts, Rate: perSecond(puts, window), Unit: unitEvents, Units: events,
		PerSec: perSecond(events, window),
		Errors: r.tally.errors.Load(), Writes: r.tally.writes.Load(), Latencies: ls,
	}
	if s := r.tally.first.Load(); s != nil {
		res.FirstError = *s
	}
	res.Server = m.Used(res.PerSec)
	return res, nil
}

// put sends Total puts from Clients goroutines, in an open loop if there is a rate.
func (r *watchRun) put(ctx context.Context, conns []*clientv3.Client, begin time.Time) {
	vs := NewValues(r.o.ValSize-stampBytes, r.o.Seed)
	var next atomic.Int64
	var wg sync.WaitGroup
	for id := range r.o.Clients {
		wg.Go(func() {
			c, rnd := conns[id%len(conns)], rand.New(rand.NewPCG(r.o.Seed, uint64(id)))
			g := newGuard(ctx)
			defer g.stop()
			for n := next.Add(1) - 1; n < r.o.Total && g.ctx.Err() == nil; n = next.Add(1) - 1 {
				due := time.Now()
				if r.o.Rate > 0 {
					due = begin.Add(time.Duration(float64(n) / r.o.Rate * float64(time.Second)))
					g.pause()
					sleepUntil(ctx, due)
				}
				g.arm()
				key := rnd.Int64N(r.wo.WatchedKeys)
				if r.o.Sequential {
					key = n % r.wo.WatchedKeys
				}
				val := binary.LittleEndian.AppendUint64(make([]byte, 0, r.o.ValSize), uint64(due.Sub(r.started)))
				val = append(val, vs.Next(rnd)...)
				if _, err := c.Put(g.ctx, r.ks.at(key), string(val)); err != nil {
					r.tally.fail(g.cause(err))
					continue
				}
				r.rec.record(id, 0, time.Since(due), 0)
				r.putsOf[key].Add(1)
				r.tally.writes.Add(1)
			}
		})
	}
	wg.Wait()
}

// drain waits until every watch has received every event it should.
func (r *watchRun) drain(ctx context.Context) {
	want := r.wantEvents()
	progress, at := int64(-1), time.Now()
	for ctx.Err() == nil {
		got := r.events.Load()
		if got >= want {
			return
		}
		if got != progress {
			progress, at = got, time.Now()
		}
		if time.Since(at) > drainTimeout {
			r.tally.fail(fmt.Errorf("%d of %d events did not come", want-got, want))
			return
		}
		sleepUntil(ctx, time.Now().Add(drainPoll))
	}
}

func (r *watchRun) wantEvents() (n int64) {
	watches := int64(r.wo.Streams) * int64(r.wo.PerStream)
	for key := range r.putsOf {
		watchesOfKey := watches
		if !r.wo.WholePrefix {
			watchesOfKey = watches/r.wo.WatchedKeys + b2i(int64(key) < watches%r.wo.WatchedKeys)
		}
		n += r.putsOf[key].Load() * watchesOfKey
	}
	return n
}

func b2i(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
