package leases

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ClockPeriod is how often a Clock looks, unless it is told otherwise.
const ClockPeriod = 10 * time.Millisecond

// Deletion is a delete of a key: it happened at or before At.
type Deletion struct {
	At  time.Time
	Rev int64
}

// earlier returns the deletion with the earliest moment at which it is known to have happened. clock may be nil.
func (d Deletion) earlier(clock *Clock) Deletion {
	if clock != nil {
		if at, ok := clock.By(d.Rev); ok && at.Before(d.At) {
			d.At = at
		}
	}
	return d
}

// Deletes collects the deletes under Prefix.
type Deletes struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	seen  map[string]Deletion
	grown chan struct{} // closed and replaced with every addition
	err   error
}

// Watch starts to collect, from the first revision on. Close it before cli.
func Watch(ctx context.Context, cli *clientv3.Client) *Deletes {
	ctx, cancel := context.WithCancel(ctx)
	d := &Deletes{cancel: cancel, done: make(chan struct{}), seen: map[string]Deletion{}, grown: make(chan struct{})}
	ch := cli.Watch(ctx, Prefix, clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithFilterPut())
	go func() {
		defer close(d.done)
		for resp := range ch {
			d.add(resp.Events, resp.Err())
		}
	}()
	return d
}

// Close ends the watch.
func (d *Deletes) Close() {
	d.cancel()
	<-d.done
}

func (d *Deletes) add(events []*clientv3.Event, err error) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range events {
		if key := string(e.Kv.Key); d.seen[key].Rev == 0 {
			d.seen[key] = Deletion{At: now, Rev: e.Kv.ModRevision}
		}
	}
	d.err = err
	close(d.grown)
	d.grown = make(chan struct{})
}

// Wait returns the key's first delete, or the watch's or the context's error.
func (d *Deletes) Wait(ctx context.Context, key string) (Deletion, error) {
	for {
		d.mu.Lock()
		del, ok := d.seen[key]
		grown, err := d.grown, d.err
		d.mu.Unlock()
		switch {
		case ok:
			return del, nil
		case err != nil:
			return Deletion{}, fmt.Errorf("leases: watch: %w", err)
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return Deletion{}, ctx.Err()
		}
	}
}

// Clock knows by which moments revisions had been made. It learns that from linearizable reads.
type Clock struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	seen []sight // both rise
}

type sight struct {
	rev int64
	at  time.Time
}

// StartClock reads the revision once in each period. Close it before cli.
func StartClock(ctx context.Context, cli *clientv3.Client, period time.Duration) *Clock {
	ctx, cancel := context.WithCancel(ctx)
	c := &Clock{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.run(ctx, cli, period)
	}()
	return c
}

func (c *Clock) run(ctx context.Context, cli *clientv3.Client, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		once, cancel := context.WithTimeout(ctx, try)
		resp, err := cli.Get(once, Prefix, clientv3.WithCountOnly())
		cancel()
		if err == nil {
			c.saw(resp.Header.GetRevision(), time.Now())
		}
	}
}

func (c *Clock) saw(rev int64, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.seen); n == 0 || rev > c.seen[n-1].rev {
		c.seen = append(c.seen, sight{rev, at})
	}
}

// By returns the first moment at which revision rev is known to have been made.
func (c *Clock) By(rev int64) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, _ := slices.BinarySearchFunc(c.seen, rev, func(s sight, rev int64) int { return int(s.rev - rev) })
	if i == len(c.seen) {
		return time.Time{}, false
	}
	return c.seen[i].at, true
}

// Close ends the reads.
func (c *Clock) Close() {
	c.cancel()
	<-c.done
}
