package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"github.com/headwaterdb/headwater/tests/stack"
)

const (
	// progressMin and progressMax are how many requests succeed between two faults.
	progressMin, progressMax = 50, 600
	// downMax bounds how long a killed process stays away, pauseMax how long one is stopped.
	downMax, pauseMax = 3 * time.Second, 3 * time.Second
	// pauseChance in 10 of the faults are pauses.
	pauseChance = 2

	// linearizationTimeout bounds the judge of one round.
	linearizationTimeout = 5 * time.Minute
	// readTimeout bounds the reading of the log after a round.
	readTimeout = time.Minute
)

// round runs one round and judges it.
func round(ctx context.Context, s *stack.Stack, o options, profile load.Profile, rnd *rand.Rand, all *tally,
	out io.Writer,
) error {
	cfg := load.Config{
		Endpoints: []string{s.Endpoint()}, Profile: profile, Seed: rnd.Uint64(), Sparse: true,
		Clients: o.clients, Watchers: o.clients, Rate: o.rate, Compact: true,
	}
	traffic, err := load.Start(ctx, cfg)
	if err != nil {
		return err
	}
	for end := time.Now().Add(o.round); err == nil && traffic.GoesOn(end); {
		if err = traffic.Progress(ctx, progressMin+rnd.Int64N(progressMax-progressMin)); err == nil {
			err = fault(ctx, s, traffic, rnd, all)
		}
	}
	if err == nil {
		err = s.WaitRouted(ctx)
	}
	h, stopErr := traffic.Stop(ctx)
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	log, err := readLog(ctx, s.Endpoint(), h.Last)
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	whole, err := check.Complete(h.Events, log)
	if err != nil {
		return err
	}
	begin := time.Now()
	res, err := check.Run(zap.NewNop(), check.Ranks(check.History{
		History: h, Log: whole, OneKeyPerRevision: profile == load.Kubernetes,
	}), linearizationTimeout)
	fmt.Fprintf(out, "%v: %d answered, %d failed, judged in %v; %+v\n", profile, h.Acked, h.Failed,
		time.Since(begin).Round(time.Millisecond), res.Coverage)
	all.acked, all.failed = all.acked+h.Acked, all.failed+h.Failed
	if res.Linearization.Status == validate.Failure {
		err = errors.Join(err, porcupine.VisualizePath(res.Linearization.Model, res.Linearization.Info,
			filepath.Join(s.Logs(), "history.html")))
	}
	return err
}

// fault kills or pauses one process of a random kind, brings it back after a while, and measures how long it took
// until requests succeeded again.
func fault(ctx context.Context, s *stack.Stack, traffic *load.Run, rnd *rand.Rand, all *tally) error {
	kinds := append([]string{stack.KindFDB, stack.KindNATS, stack.KindRouter}, stack.PodKinds...)
	kind := kinds[rnd.IntN(len(kinds))]
	victims := s.Processes(kind)
	p := victims[rnd.IntN(len(victims))]
	begin := time.Now()
	what, err := "kill", error(nil)
	if rnd.IntN(10) < pauseChance {
		what = "pause"
		err = errors.Join(p.Pause(), wait(ctx, rnd, pauseMax), p.Resume())
	} else if err = p.Kill(); err == nil {
		// A kind with two processes must go on with one.
		if len(victims) > 1 {
			err = traffic.Progress(ctx, 1)
			all.add(kind+", the other one serves", time.Since(begin))
		}
		err = errors.Join(err, wait(ctx, rnd, downMax), p.Start(ctx))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, p.Name, err)
	}
	back := time.Now()
	if err := traffic.Progress(ctx, 1); err != nil {
		return fmt.Errorf("after %s of %s: %w", what, p.Name, err)
	}
	all.add(kind+", after "+what, time.Since(back))
	return nil
}

// wait lets a random time up to limit pass.
func wait(ctx context.Context, rnd *rand.Rand, limit time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Duration(rnd.Int64N(int64(limit)))):
		return nil
	}
}

// readLog reads the log up to last from the compact revision on, through a watch.
func readLog(ctx context.Context, endpoint string, last int64) ([]revlog.Entry, error) {
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: readTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	from := int64(1)
	for {
		events, compact, err := watched(ctx, c, from, last)
		if compact == 0 {
			return check.FromEvents(events), err
		}
		from = compact
	}
}

// watched returns all events between two revisions, or the compact revision if that is above from.
func watched(ctx context.Context, c *clientv3.Client, from,
	last int64,
) (events []*clientv3.Event, compact int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range c.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(from), clientv3.WithPrevKV(),
		clientv3.WithFragment()) {
		if resp.CompactRevision > from {
			return nil, resp.CompactRevision, nil
		}
		if err := resp.Err(); err != nil {
			return nil, 0, err
		}
		events = append(events, resp.Events...)
		if n := len(events); n > 0 && events[n-1].Kv.ModRevision >= last {
			return events, 0, nil
		}
	}
	return nil, 0, errors.Join(errors.New("the watch has ended"), ctx.Err())
}

// tally counts what happened, by kind of fault.
type tally struct {
	acked, failed int64
	times         map[string][]time.Duration
}

func newTally() *tally { return &tally{times: map[string][]time.Duration{}} }

func (t *tally) add(what string, d time.Duration) { t.times[what] = append(t.times[what], d) }

func (t *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests answered, %d failed\n%-40s %6s %10s %10s\n", t.acked, t.failed,
		"until requests succeed", "times", "median", "longest")
	names := make([]string, 0, len(t.times))
	for name := range t.times {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		d := t.times[name]
		slices.Sort(d)
		fmt.Fprintf(&b, "%-40s %6d %10v %10v\n", name, len(d), d[len(d)/2].Round(time.Millisecond),
			d[len(d)-1].Round(time.Millisecond))
	}
	return b.String()
}
