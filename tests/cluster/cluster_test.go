package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

const (
	// linearizationTimeout bounds porcupine's search.
	linearizationTimeout = 3 * time.Minute
	// progressMin and progressMax bound how many requests succeed between two faults. After progressTime
	// progressMin are enough.
	progressMin, progressMax = 20, 300
	progressTime             = 500 * time.Millisecond
)

// TestCluster lets clients of all pods write, read and watch while every kind of fault happens.
func TestCluster(t *testing.T) {
	t.Parallel() // it mostly waits
	s := newStack(t)
	if err := s.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, faults, err := s.traffic(t.Context(), load.Config{
		Profile: load.KeyValue, Clients: 8, Watchers: 8, Rate: 600, LargeBytes: 150_000, Compact: true,
	}, allFaults, *durationFlag)
	if err != nil {
		t.Error(err)
	}
	hist, err := s.history(t.Context(), h)
	var res check.Result
	if err == nil {
		res, err = check.Run(zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), hist, linearizationTimeout)
	}
	if err != nil {
		t.Error(err)
	}
	if t.Failed() {
		keepHistory(t, s.dir, hist, res)
	}
	t.Logf("%d answered, %d failed, last revision %d; frames: %v; %+v", h.Acked, h.Failed, h.Last, &s.count,
		res.Coverage)
	t.Logf("\n%v", ofTraffic(h, faults))
	c := res.Coverage
	if c.OldReads == 0 || c.Serializable == 0 || c.Resumable == 0 || c.Creates == 0 || c.Prev == 0 || c.Progress == 0 ||
		c.Several == 0 {
		t.Errorf("the traffic lacks something that is to be judged: %+v", c)
	}
	if s.count.dropped.Load() == 0 || s.count.doubled.Load() == 0 || s.count.reordered.Load() == 0 {
		t.Errorf("no frames were lost, doubled or reordered: %v", &s.count)
	}
}

// traffic runs a load through all pods while faults happen.
func (s *stack) traffic(ctx context.Context, cfg load.Config, kinds []fault,
	d time.Duration,
) (load.History, []injected, error) {
	cfg.Endpoints, cfg.Failover, cfg.Sparse, cfg.Seed = s.addrs(kv, hub, keeper), true, true, s.seedOf("load")
	run, err := load.Start(ctx, cfg)
	if err != nil {
		return load.History{}, nil, err
	}
	rnd := rand.New(rand.NewPCG(cfg.Seed, 1))
	until := time.Now().Add(d)
	faults, err := s.inject(ctx, rnd, kinds,
		func() bool { return run.GoesOn(until) },
		func() error { return progress(ctx, run, rnd) })
	h, stopErr := run.Stop(ctx)
	return h, faults, errors.Join(err, stopErr)
}

// progress lets some requests succeed.
func progress(ctx context.Context, run *load.Run, rnd *rand.Rand) error {
	more := rnd.Int64N(progressMax - progressMin)
	if err := run.Progress(ctx, progressMin); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, progressTime)
	defer cancel()
	if err := run.Progress(short, more); err != nil && short.Err() == nil {
		return err
	}
	return ctx.Err()
}

// history joins what the clients saw with the log, and replaces revisions by ranks.
func (s *stack) history(ctx context.Context, h load.History) (check.History, error) {
	hist := check.History{History: h}
	log, err := s.log(ctx)
	if err != nil {
		return hist, err
	}
	if hist.Log, err = check.Complete(h.Events, log); err != nil {
		return hist, err
	}
	return check.Ranks(hist), nil
}
