package watchload

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// pauseMax bounds how long processes are stopped. A hub that has seen nothing for 10 s ends its streams, so that
// clients turn to another hub.
const pauseMax = 6 * time.Second

// CatchUp measures how fast Watchers watchers get what was written while the processes in Pause were stopped: History
// puts, or what fits into 6 s, as fast as Clients clients have them answered. EventsPerSecond is counted from the first
// event to the last.
func CatchUp(ctx context.Context, o Options) (res Result, err error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if o.Watchers == 0 || o.History < 2 || o.OwnKey {
		return Result{}, errors.New("a catch-up takes watchers of all keys and a history")
	}
	c, err := o.open(ctx)
	if err != nil {
		return Result{}, err
	}
	defer c.close()
	g, err := openGroup(ctx, c.watch, watchSpec{
		streams: o.Streams, perStream: o.Watchers / o.Streams, prevKV: o.PrevKV, contiguous: !o.Sparse,
		interval: func(int) (string, string) { return prefix, prefixEnd(prefix) },
	})
	if err != nil {
		return Result{}, err
	}
	defer g.close()
	if err := g.awaitCreated(ctx); err != nil {
		return Result{}, err
	}
	w := &writer{
		conns: c.write, clients: o.Clients, bodies: newBodies(o.ValSize, o.Seed), hist: newHistogram(), key: o.key,
	}
	written, err := o.whilePaused(func() error { return w.run(ctx, time.Now().Add(pauseMax), o.History) })
	if err != nil {
		return Result{}, err
	}
	began, early, history := time.Now(), g.arrived(), w.acked.Load()
	if early == history*g.size() {
		return Result{}, fmt.Errorf("all %d events came before the processes went on", early)
	}
	for g.arrived() == early && g.err() == nil && ctx.Err() == nil && time.Since(began) < progressTimeout {
		sleep(ctx, pollInterval)
	}
	first := time.Now()
	if err := g.await(ctx, "events", history*g.size(), g.arrived); err != nil {
		return Result{}, err
	}
	last := time.Now()
	g.close()
	if err := g.check(func(int) int64 { return history }); err != nil {
		return Result{}, err
	}
	return Result{Command: "watch-catch-up", Values: map[string]float64{
		EventsPerSecond: float64(history*g.size()-early) / last.Sub(first).Seconds(),
		HistoryRate:     float64(history) / written.Seconds(),
		FirstEvent:      first.Sub(began).Seconds(), LiveAll: last.Sub(began).Seconds(),
	}}, nil
}

// whilePaused stops the processes of Pause, calls f, and lets them go on.
func (o *Options) whilePaused(f func() error) (took time.Duration, err error) {
	defer func() {
		for _, pid := range o.Pause {
			if cerr := syscall.Kill(pid, syscall.SIGCONT); cerr != nil {
				err = errors.Join(err, fmt.Errorf("process %d cannot be resumed: %w", pid, cerr))
			}
		}
	}()
	for _, pid := range o.Pause {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return 0, fmt.Errorf("process %d cannot be stopped: %w", pid, err)
		}
	}
	begin := time.Now()
	err = f()
	return time.Since(begin), err
}
