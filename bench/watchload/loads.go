package watchload

import (
	"cmp"
	"context"
	"fmt"

	"google.golang.org/grpc"
)

// clients are the connections of a load.
type clients struct{ watch, write []*grpc.ClientConn }

func (c clients) close() {
	closeAll(c.watch)
	closeAll(c.write)
}

// open dials and makes one request over each connection, so that no measurement includes the dialling.
func (o *Options) open(ctx context.Context) (c clients, err error) {
	if c.watch, err = dial(o.Endpoint, o.Conns); err == nil {
		c.write, err = dial(cmp.Or(o.Writes, o.Endpoint), o.WriteConns)
	}
	for _, conns := range [][]*grpc.ClientConn{c.watch, c.write} {
		if err == nil {
			err = connect(ctx, conns)
		}
	}
	if err != nil {
		c.close()
	}
	return c, err
}

// connect asks each connection for a key that is not there.
func connect(ctx context.Context, conns []*grpc.ClientConn) error {
	for _, conn := range conns {
		if _, err := head(ctx, conn); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	return nil
}

// head returns the server's revision.
func head(ctx context.Context, conn *grpc.ClientConn) (int64, error) {
	var a answer
	// The bytes encode RangeRequest{Key: "\x00"}.
	err := conn.Invoke(ctx, methodRange, request{0x0a, 0x01, 0x00}, &a, grpc.WaitForReady(true))
	return a.revision, err
}

// Fan measures Watchers watches on the common prefix of all puts, so that each put is an event for each watch. With
// OwnKey each watch is on one of the keys. Without watchers Fan only writes.
func Fan(ctx context.Context, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	c, err := o.open(ctx)
	if err != nil {
		return Result{}, err
	}
	defer c.close()
	streams := o.Streams
	if o.Watchers == 0 {
		streams = 0
	}
	win, err := o.fan(ctx, c.watch, c.write, streams, o.Watchers)
	if err != nil {
		return Result{}, err
	}
	secs := win.length.Seconds()
	return Result{Command: "watch-fan", Others: win.server.Others, Values: map[string]float64{
		EventsPerSecond: float64(win.events) / secs, WritesPerSecond: float64(win.writes) / secs,
		CPUPerEvent: win.server.CPUPerUnit, CPUCores: win.server.CPUPerSecond,
		EventP50: secondsAt(win.latency, 50), EventP99: secondsAt(win.latency, 99),
		EventMax: secondsAt(win.latency, 100),
		PutP50:   secondsAt(win.puts, 50), PutP99: secondsAt(win.puts, 99),
		RSSBefore: float64(win.rssBefore), RSSMax: float64(win.rssMax), RSSGrowth: float64(win.rssMax - win.rssBefore),
	}}, nil
}

// Stalled measures the put rate of a closed loop without, with, and again without Beside watchers that watch the prefix
// of the puts and never read. The warm-up fills all buffers.
func Stalled(ctx context.Context, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if o.Rate != 0 {
		return Result{}, fmt.Errorf("a put rate of %v leaves nothing to measure", o.Rate)
	}
	spec := watchSpec{
		streams: o.BesideStreams, perStream: o.Beside / o.BesideStreams, prevKV: o.PrevKV, stalled: true,
		interval: func(int) (string, string) { return prefix, prefixEnd(prefix) },
	}
	res, with, err := o.beside(ctx, spec, []grpc.DialOption{grpc.WithInitialWindowSize(stalledWindow)}, 0, 0,
		func(w window) float64 { return float64(w.writes) / w.length.Seconds() })
	if err != nil {
		return Result{}, err
	}
	res.Command = "watch-stalled"
	res.Values[PutP99] = secondsAt(with.puts, 99)
	res.Values[RSSGrowth] = float64(with.rssMax - with.rssBefore)
	return res, nil
}

// Idle measures the CPU per event of Watchers watchers without, with, and again without Beside watchers. Each of these
// watches a prefix of its own, under which nothing is written.
func Idle(ctx context.Context, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	spec := watchSpec{
		streams: o.BesideStreams, perStream: o.Beside / o.BesideStreams, prevKV: o.PrevKV, contiguous: true,
		interval: ownPrefix,
	}
	res, with, err := o.beside(ctx, spec, nil, o.Streams, o.Watchers, func(w window) float64 {
		return w.server.CPUPerUnit
	})
	if err != nil {
		return Result{}, err
	}
	res.Command = "watch-idle"
	res.Values[EventP99] = secondsAt(with.latency, 99)
	return res, nil
}

// ownPrefix returns the range of a prefix that belongs to watch i alone, outside the prefix of the writes.
func ownPrefix(i int) (key, end string) {
	key = fmt.Sprintf("/hwidle/%07d/", i)
	return key, prefixEnd(key)
}

// beside measures a window without, with, and again without the group that spec describes, on one server. So a drift of
// the machine affects both measurements.
func (o *Options) beside(ctx context.Context, spec watchSpec, dialOptions []grpc.DialOption, streams, watchers int,
	value func(window) float64,
) (res Result, with window, err error) {
	c, err := o.open(ctx)
	if err != nil {
		return res, with, err
	}
	defer c.close()
	measure := func() (window, error) { return o.fan(ctx, c.watch, c.write, streams, watchers) }
	before, err := measure()
	if err != nil {
		return res, with, err
	}
	if with, err = o.withGroup(ctx, spec, dialOptions, measure); err != nil {
		return res, with, fmt.Errorf("with %d watchers beside: %w", spec.streams*spec.perStream, err)
	}
	after, err := measure()
	if err != nil {
		return res, with, err
	}
	without := (value(before) + value(after)) / 2
	cpu := (before.server.CPUPerUnit + after.server.CPUPerUnit) / 2
	return Result{
		Others: max(before.server.Others, with.server.Others, after.server.Others),
		Values: map[string]float64{
			WithoutBeside: without, WithBeside: value(with), BesideRatio: value(with) / without,
			CPURatio: with.server.CPUPerUnit / cpu,
		},
	}, with, nil
}

func (o *Options) withGroup(ctx context.Context, spec watchSpec, dialOptions []grpc.DialOption,
	measure func() (window, error),
) (window, error) {
	conns, err := dial(o.Endpoint, o.Conns, dialOptions...)
	if err != nil {
		return window{}, err
	}
	defer closeAll(conns)
	g, err := openGroup(ctx, conns, spec)
	if err != nil {
		return window{}, err
	}
	defer g.close()
	if err := g.awaitCreated(ctx); err != nil {
		return window{}, err
	}
	win, err := measure()
	if err != nil {
		return window{}, err
	}
	if n := g.arrived(); !spec.stalled && n > 0 {
		return window{}, fmt.Errorf("watchers of other prefixes received %d events", n)
	}
	return win, g.err()
}
