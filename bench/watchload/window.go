package watchload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
)

// rssInterval is how often the server's memory is read for its peak.
const rssInterval = 50 * time.Millisecond

// window is what one measured window showed.
type window struct {
	length         time.Duration
	events, writes int64                   // in the window
	latency, puts  *hdrhistogram.Histogram // of events, and of puts, whose put was sent in the window
	// server is what the server used from the window's begin until the last event of its puts. It is per event, or
	// per put if there are no watchers.
	server            *load.Server
	rssBefore, rssMax int64
}

// fan opens the watchers on the prefix of all writes, writes for warm-up and window, waits for the last event, and
// closes the watchers. With watchers == 0 it only writes.
func (o *Options) fan(ctx context.Context, watchConns, writeConns []*grpc.ClientConn, streams,
	watchers int,
) (_ window, err error) {
	spec := watchSpec{streams: streams, prevKV: o.PrevKV, contiguous: !o.Sparse, interval: func(int) (string, string) {
		return prefix, prefixEnd(prefix)
	}}
	if o.OwnKey {
		spec.contiguous, spec.interval = false, func(i int) (string, string) { return o.key(int64(i)), "" }
	}
	if streams > 0 {
		spec.perStream = watchers / streams
	}
	g, err := openGroup(ctx, watchConns, spec)
	if err != nil {
		return window{}, err
	}
	defer g.close()
	if err := g.awaitCreated(ctx); err != nil {
		return window{}, err
	}
	win, acked, err := o.write(ctx, writeConns, g)
	if err != nil {
		return window{}, err
	}
	g.close()
	win.latency = g.latencies()
	if o.OwnKey { // write has counted all events; the last round of puts may have skipped some keys
		return win, nil
	}
	return win, g.check(func(int) int64 { return acked })
}

// write is the part of fan between opening and closing. acked is the number of all writes.
func (o *Options) write(ctx context.Context, conns []*grpc.ClientConn, g *group) (win window, acked int64, err error) {
	w := &writer{
		conns: conns, clients: o.Clients, rate: o.Rate, bodies: newBodies(o.ValSize, o.Seed), hist: newHistogram(),
		key: o.key,
	}
	start := time.Now()
	begin := start.Add(o.Warmup)
	end := begin.Add(o.Duration)
	w.from.Store(int64(begin.Sub(epoch)))
	g.from.Store(int64(begin.Sub(epoch)))
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx, end, 0) }()
	rss := watchRSS(o.ServerPID)
	defer func() { err = errors.Join(err, rss.stop(&win)) }()

	sleep(ctx, time.Until(begin))
	var m load.Meter
	err = m.Start(o.ServerPID)
	began, events, writes := time.Now(), g.arrived(), w.acked.Load()
	sleep(ctx, time.Until(end))
	win.length, win.events, win.writes = time.Since(began), g.arrived()-events, w.acked.Load()-writes
	if err := errors.Join(err, <-ended); err != nil {
		return win, 0, err
	}
	acked = w.acked.Load()
	if err := g.await(ctx, "events", acked*o.perPut(g), g.arrived); err != nil {
		return win, 0, err
	}
	if err := m.Stop(); err != nil {
		return win, 0, err
	}
	units := g.arrived() - events
	if g.size() == 0 {
		units = acked - writes
	}
	win.server, win.puts = m.UsedFor(units), w.hist
	return win, acked, nil
}

// key is the key of put n.
func (o *Options) key(n int64) string { return fmt.Sprintf("%sk%06d", prefix, n%o.Keys) }

// perPut is how many watches of a group each put matches.
func (o *Options) perPut(g *group) int64 {
	if o.OwnKey {
		return g.size() / o.Keys
	}
	return g.size()
}

// rssWatcher follows the memory of a process until stop.
type rssWatcher struct {
	done        chan struct{}
	wg          sync.WaitGroup
	before, max int64
	err         error
}

func watchRSS(pid int) *rssWatcher {
	r := &rssWatcher{done: make(chan struct{})}
	m, err := proc.ReadMemory(pid)
	r.before, r.max, r.err = m.RSS, m.RSS, err
	r.wg.Go(func() {
		ticker := time.NewTicker(rssInterval)
		defer ticker.Stop()
		for {
			select {
			case <-r.done:
				return
			case <-ticker.C:
			}
			m, err := proc.ReadMemory(pid)
			if err != nil {
				r.err = err
				return
			}
			r.max = max(r.max, m.RSS)
		}
	})
	return r
}

func (r *rssWatcher) stop(win *window) error {
	close(r.done)
	r.wg.Wait()
	win.rssBefore, win.rssMax = r.before, r.max
	return r.err
}

// secondsAt returns a percentile of h in seconds.
func secondsAt(h *hdrhistogram.Histogram, percentile float64) float64 {
	return (time.Duration(h.ValueAtPercentile(percentile)) * time.Microsecond).Seconds()
}
