package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/porttest"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
	"github.com/headwaterdb/headwater/tests/internal/load"
)

// pods are several servers on one engine, as kv pods share a database.
type pods struct {
	system
	addrs []string
	srvs  []*inproc.Server
}

func (p *pods) startPod(ctx context.Context, i int) error {
	l, err := net.Listen("tcp", p.addrs[i])
	if err != nil {
		return err
	}
	p.srvs[i], err = inproc.Start(ctx, inproc.Config{
		Engine: p.eng, Listener: l, MVCC: p.mvcc, Logger: slog.New(slog.DiscardHandler), NoLeases: true,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("pod %d: %w", i, err), l.Close())
	}
	return nil
}

// TestPods lets two servers write to one engine, so that real conflicts occur between them, and restarts one of them at
// a time. Every client stays with one server. The history of all clients is judged as one.
func TestPods(t *testing.T) {
	s, seed := newSystem(t)
	p := &pods{system: *s, addrs: []string{porttest.Addr(t), porttest.Addr(t)}, srvs: make([]*inproc.Server, 2)}
	p.mvcc = mvcc.Options{Lanes: 2, Shift: 5, GroupMax: 8, InlineBytes: 3}
	unreliable := faults.New(
		testengine.KeepOpen(testengine.Open(t, seed)),
		faults.Options{Seed: seed, UnknownLost: 0.02, UnknownCommitted: 0.02},
	)
	p.eng = unreliable
	ctx := t.Context()
	unreliable.Pause(true)
	if err := errors.Join(p.startPod(ctx, 0), p.startPod(ctx, 1)); err != nil {
		t.Fatal(err)
	}
	unreliable.Pause(false)
	cfg := load.Config{
		Endpoints: p.addrs, Profile: load.Kubernetes, Sparse: true, Seed: seed, Clients: 8, Watchers: 4, Rate: 2000,
		Compact: true,
	}
	run, err := load.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(*durationFlag)
	// A slow machine gets as long as for the rest of the traffic until there was a conflict.
	noConflict := func() bool { return p.conflicts == 0 && time.Now().Before(end.Add(2*time.Minute)) }
	for err == nil && (run.GoesOn(end) || noConflict()) {
		if err = run.Progress(ctx, progressMin+p.rnd.Int64N(progressMax-progressMin)); err == nil {
			err = p.restart(ctx, p.rnd)
		}
	}
	h, stopErr := run.Stop(ctx)
	if err := errors.Join(err, stopErr); err != nil {
		t.Error(err)
	}
	p.count(p.srvs[1])
	if err := p.srvs[1].Stop(nil); err != nil {
		t.Error(err)
	}
	p.srv = p.srvs[0]
	res, err := p.judge(ctx, cfg, h)
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d restarts, %d conflicts, %d retries; %d answered, %d failed; %+v",
		p.crashes, p.conflicts, p.retries, h.Acked, h.Failed, res.Coverage)
	if p.conflicts == 0 {
		t.Error("no conflicts occurred")
	}
}

// restart stops one of the pods and starts it again.
func (p *pods) restart(ctx context.Context, rnd *rand.Rand) error {
	p.crashes++
	i := rnd.IntN(len(p.srvs))
	p.count(p.srvs[i])
	return errors.Join(p.srvs[i].Stop(nil), p.startPod(ctx, i))
}
