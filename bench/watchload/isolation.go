package watchload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// pastPrefix is the prefix of the keys whose old revisions the late watcher of Isolation reads. pastKeys is how
	// many such keys there are. Isolation also lists them.
	pastPrefix = "/hwpast/"
	pastKeys   = 20_000
	// listInterval is the least time from the begin of one list to the begin of the next, so that a faster server
	// is not disturbed more often.
	listInterval = 200 * time.Millisecond
)

// Isolation measures Watchers watchers at a fixed rate of writes without, with, and again without a disturbance. The
// disturbance is four things at once: a stream on the same prefix that is never read, a watcher that begins History
// revisions ago, Beside watches on BesideStreams streams that are created together, each on a prefix of its own, and a
// list of all old keys every listInterval until the window ends.
func Isolation(ctx context.Context, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if o.Rate == 0 || o.History < 1 {
		return Result{}, errors.New("isolation takes a rate and a history")
	}
	c, err := o.open(ctx)
	if err != nil {
		return Result{}, err
	}
	defer c.close()
	left, err := head(ctx, c.write[0])
	if err != nil {
		return Result{}, err
	}
	past := &writer{
		conns: c.write, clients: o.Clients, bodies: newBodies(o.ValSize, o.Seed), hist: newHistogram(),
		key: func(n int64) string { return fmt.Sprintf("%sk%06d", pastPrefix, n%pastKeys) },
	}
	if err := past.run(ctx, time.Time{}, o.History); err != nil {
		return Result{}, err
	}
	measure := func() (window, error) { return o.fan(ctx, c.watch, c.write, o.Streams, o.Watchers) }
	before, err := measure()
	if err != nil {
		return Result{}, err
	}
	d := disturbance{o: &o, from: left + 1}
	with, err := d.during(ctx, measure)
	if err != nil {
		return Result{}, fmt.Errorf("disturbed: %w", err)
	}
	after, err := measure()
	if err != nil {
		return Result{}, err
	}
	p99 := func(w *window) float64 { return secondsAt(w.latency, 99) }
	writes := func(w *window) float64 { return float64(w.writes) / w.length.Seconds() }
	res := Result{
		Command: "watch-isolation", Others: max(before.server.Others, with.server.Others, after.server.Others),
		Values: map[string]float64{
			WithoutBeside: (p99(&before) + p99(&after)) / 2, WithBeside: p99(&with),
			WritesPerSecond: writes(&with), WritesRatio: 2 * writes(&with) / (writes(&before) + writes(&after)),
			PutP99: secondsAt(with.puts, 99), RSSGrowth: float64(with.rssMax - with.rssBefore),
			BehindRead: float64(d.behindRead), Lists: float64(d.lists), CreateAll: d.createAll,
		},
	}
	res.Values[BesideRatio] = res.Values[WithBeside] / res.Values[WithoutBeside]
	return res, nil
}

// disturbance is what goes on beside the watchers that Isolation measures.
type disturbance struct {
	o    *Options
	from int64 // where the watcher that is behind begins

	behindRead, lists int64
	createAll         float64
}

// during measures with the disturbance. The stream that is never read is open before; everything else begins with the
// window.
func (d *disturbance) during(ctx context.Context, measure func() (window, error)) (win window, err error) {
	conns, err := dial(d.o.Endpoint, d.o.Conns, grpc.WithInitialWindowSize(stalledWindow))
	if err != nil {
		return win, err
	}
	defer closeAll(conns)
	whole := func(prefix string) func(int) (string, string) {
		return func(int) (string, string) { return prefix, prefixEnd(prefix) }
	}
	stalled, err := openGroup(ctx, conns, watchSpec{
		streams: 1, perStream: 1, prevKV: d.o.PrevKV, stalled: true, interval: whole(prefix),
	})
	if err != nil {
		return win, err
	}
	defer stalled.close()
	if err := stalled.awaitCreated(ctx); err != nil {
		return win, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var errs [3]error
	for i, disturb := range []func() error{
		func() error { return d.readBehind(ctx, conns, whole(pastPrefix)) },
		func() error { return d.create(ctx, conns) },
		func() error { return d.list(ctx, conns[0]) },
	} {
		wg.Go(func() {
			sleep(ctx, d.o.Warmup)
			errs[i] = disturb()
		})
	}
	win, err = measure()
	cancel()
	wg.Wait()
	return win, errors.Join(append(errs[:], err, stalled.err())...)
}

// readBehind is the watcher that begins in the past. It goes on until ctx ends.
func (d *disturbance) readBehind(ctx context.Context, conns []*grpc.ClientConn,
	interval func(int) (string, string),
) error {
	g, err := openGroup(ctx, conns, watchSpec{
		streams: 1, perStream: 1, prevKV: d.o.PrevKV, startRev: d.from, interval: interval,
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	g.close()
	d.behindRead = g.arrived()
	return g.err()
}

// create opens the watches that are created together, and keeps them until ctx ends.
func (d *disturbance) create(ctx context.Context, conns []*grpc.ClientConn) error {
	started := now()
	spec := watchSpec{
		streams: d.o.BesideStreams, perStream: d.o.Beside / d.o.BesideStreams, prevKV: d.o.PrevKV, contiguous: true,
		interval: ownPrefix,
	}
	g, err := openGroup(ctx, conns, spec)
	if err != nil {
		return err
	}
	defer g.close()
	if err := g.awaitCreated(ctx); err != nil {
		return fmt.Errorf("watches created during the window: %w", err)
	}
	d.createAll = float64(g.lastAt.Load()-started) / 1e9
	<-ctx.Done()
	return g.err()
}

// list lists the old keys until ctx ends.
func (d *disturbance) list(ctx context.Context, conn *grpc.ClientConn) error {
	for ctx.Err() == nil {
		next := time.Now().Add(listInterval)
		err := conn.Invoke(ctx, methodRange,
			&pb.RangeRequest{Key: []byte(pastPrefix), RangeEnd: []byte(prefixEnd(pastPrefix))}, &answer{})
		switch {
		case err == nil:
			d.lists++
			sleep(ctx, time.Until(next))
		case ctx.Err() == nil:
			return fmt.Errorf("list: %w", err)
		}
	}
	return nil
}
