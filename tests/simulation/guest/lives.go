//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lives are leases in one keyspace that clients keep alive for a while and then leave to end.
type lives struct {
	keyspace string
	reader   *clientv3.Client
	gone     *leases.Deletes
	clock    *leases.Clock
	all      []*leases.Life
	errs     chan error
}

// clockPeriod is how often it is looked at what revision there is: each life looks at its keys about as often.
const clockPeriod = 100 * time.Millisecond

// startLives grants the leases, some in each keyspace that nothing else is in, and keeps them alive, each by a client
// of its own. Their names are the same in each: what one keyspace sees of another is noticed.
func (w *world) startLives(ctx context.Context) (all []*lives, err error) {
	names := slices.DeleteFunc(slices.Clone(w.c.keyspaces), func(n string) bool {
		return n == w.c.traffic || w.plan.counts > 0 && n == w.c.counted
	})
	n := w.leases / len(names)
	if n == 0 {
		return nil, nil
	}
	for _, name := range names {
		l, err := w.startLivesIn(ctx, name, n)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

func (w *world) startLivesIn(ctx context.Context, keyspace string, n int) (*lives, error) {
	ctx = in(ctx, keyspace)
	everywhere := w.addrs(outside, w.first())
	watcher, err := w.client(everywhere...)
	if err != nil {
		return nil, err
	}
	reader, err := w.client(w.addrs(outside, w.of(config.KV)[:w.c.per])...)
	if err != nil {
		return nil, err
	}
	l := &lives{
		keyspace: keyspace, reader: reader, gone: leases.Watch(ctx, watcher),
		clock: leases.StartClock(ctx, reader, clockPeriod),
		all:   make([]*leases.Life, n), errs: make(chan error, n),
	}
	for i := range l.all {
		r := w.rand(fmt.Sprint("lease ", keyspace, i))
		addrs := everywhere
		switch r.IntN(4) { // at one pod always, so that a deposed one is asked
		case 0:
			addrs = addrs[r.IntN(len(addrs)):][:1]
		case 1:
			addrs = w.addrs(outside, w.of(config.LeaseKeeper)[:w.c.per])
			addrs = addrs[r.IntN(len(addrs)):][:1]
		}
		cli, err := w.client(addrs...)
		if err != nil {
			return nil, err
		}
		end := time.Now().Add(between(r, w.duration/4, w.duration*5/4))
		ttl := leases.TTL(r, 1, leaseTTL)
		stays := r.IntN(2) == 0 // until the last fault is over, which may be long after the time for faults
		go func() {
			life := &leases.Life{Drift: driftMax}
			l.all[i] = life
			err := life.Run(ctx, cli, fmt.Sprintf("%02d", i), ttl, end)
			for err == nil && stays && !w.calmed.Load() {
				err = life.Keep(ctx, cli, time.Now().Add(life.TTL))
			}
			l.errs <- errors.Join(err, cli.Close())
		}()
	}
	return l, nil
}

// judgeLives waits for the end of all leases: none may be early, none too late, and both keys of one go at one
// revision.
func (w *world) judgeLives(ctx context.Context, all []*lives) (err error) {
	for _, l := range all {
		err = errors.Join(err, w.judgeLivesIn(in(ctx, l.keyspace), l))
	}
	return err
}

func (w *world) judgeLivesIn(ctx context.Context, l *lives) error {
	defer l.gone.Close()
	defer l.clock.Close()
	var errs []error
	for range l.all {
		if err := <-l.errs; err != nil {
			errs = append(errs, fmt.Errorf("leases of %s: %w", l.keyspace, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	left := time.Now()
	for _, life := range l.all {
		if err := life.Ended(ctx, l.reader, l.gone, l.clock, left.Add(life.TTL+liveWithin)); err != nil {
			errs = append(errs, fmt.Errorf("leases of %s: %x (TTL %v, key %s): %w",
				l.keyspace, life.ID, life.TTL, life.Keys[0], err))
		}
		w.seen.note("leases: ended by time")
		w.seen.add("leases: keep-alives missed for long", len(life.Pauses))
	}
	return errors.Join(errs...)
}
