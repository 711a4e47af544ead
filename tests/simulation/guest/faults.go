//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/podfaults"
)

const (
	// downMax is how long a killed pod stays away, pauseMax how long one is paused, cut off or parted from others:
	// longer than the terms of tailers (1 s) and of lease shards (2 s) last.
	downMax  = 1500 * time.Millisecond
	pauseMax = 4 * time.Second
	// faultMin is how long a fault lasts at least.
	faultMin = 50 * time.Millisecond
	// cutMax is how long a pod may be cut off from the database: longer than a term and the leases of the next last.
	cutMax = 10 * time.Second
	// wallStepMax is how far wall clocks jump, forward or back, at most.
	wallStepMax = 6 * time.Hour
	// gapMax is the most between the begins of two faults.
	gapMax = 1200 * time.Millisecond
)

// fault is something that happens and its end.
type fault struct {
	name string
	do   func(ctx context.Context, w *world, r *rand.Rand) error
}

// kind is the name as -only takes it.
func (f fault) kind() string { return strings.ReplaceAll(f.name, " ", "-") }

var allFaults = []fault{
	{"kill", onPod(up, func(ctx context.Context, p *pod, r *rand.Rand) error {
		p.kill()
		time.Sleep(between(r, 0, downMax))
		return p.start(ctx)
	})},
	{"pause", onPod(up, func(_ context.Context, p *pod, r *rand.Rand) error {
		l := p.life
		l.gate.Pause()
		time.Sleep(lasting(r, pauseMax))
		l.gate.Resume()
		return nil
	})},
	{"suspend", onPod(suspendable, func(_ context.Context, p *pod, r *rand.Rand) error {
		l := p.life
		l.gate.Pause()
		p.clock.stop()
		time.Sleep(lasting(r, pauseMax))
		p.clock.goOn()
		l.gate.Resume()
		return nil
	})},
	{"cut off from the database", onPod(up, func(_ context.Context, p *pod, r *rand.Rand) error {
		defer p.view.Cut()()
		time.Sleep(lasting(r, []time.Duration{pauseMax, cutMax}[r.IntN(2)]))
		return nil
	})},
	{"commits come late", onPod(up, func(_ context.Context, p *pod, r *rand.Rand) error {
		lateCommits(p, r)
		return nil
	})},
	{"parted while commits come late", onPod(up, partedAndLate)},
	{"lease keeper parted while commits are held", onPod(replaceable, leasesEndLate)},
	{"lease keeper cut off for long", onPod(replaceable, func(_ context.Context, p *pod, r *rand.Rand) error {
		defer p.view.Cut()()
		time.Sleep(between(r, cutMax/2, cutMax))
		return nil
	})},
	{"drain", onPod(up, func(ctx context.Context, p *pod, r *rand.Rand) error {
		if err := p.drain(ctx); err != nil {
			return fmt.Errorf("drain of %s: %w", p.name, err)
		}
		time.Sleep(between(r, 0, downMax))
		return p.start(ctx)
	})},
	{"add a pod", onPod(down, func(ctx context.Context, p *pod, _ *rand.Rand) error { return p.start(ctx) })},
	{"part both ways", onPod(up, part(true, true))},
	{"part on the way in", onPod(up, part(true, false))},
	{"part on the way out", onPod(up, part(false, true))},
	{"reset connections", onPod(up, func(_ context.Context, p *pod, r *rand.Rand) error {
		for _, k := range p.w.linksOf(p.name) {
			if r.IntN(2) == 0 {
				k.reset()
			}
		}
		return nil
	})},
	{"half-open connections", onPod(up, func(_ context.Context, p *pod, r *rand.Rand) error {
		// What is under way is stuck until the end, and then gone.
		defer part(true, true)(nil, p, r)
		for _, k := range p.w.linksOf(p.name) {
			defer k.reset()
		}
		return nil
	})},
	{"clog links", clog},
	{"slow network", func(_ context.Context, w *world, r *rand.Rand) error {
		w.slow = between(r, time.Millisecond, 60*time.Millisecond)
		time.Sleep(lasting(r, pauseMax))
		w.slow = 0
		return nil
	}},
	{"mute bus", weatherFault(weather{mute: true})},
	{"storm on the bus", weatherFault(storm)},
	{"wall clock steps", func(_ context.Context, _ *world, r *rand.Rand) error {
		by := between(r, -wallStepMax, wallStepMax)
		stepWallClock(int64(by))
		time.Sleep(between(r, 0, pauseMax))
		stepWallClock(-int64(by))
		return nil
	}},
	{"outage of the database", func(_ context.Context, w *world, r *rand.Rand) error {
		for _, p := range w.pods {
			if p.life != nil && !p.busy {
				defer p.view.Cut()()
			}
		}
		time.Sleep(lasting(r, pauseMax/2))
		return nil
	}},
}

// lasting is how long a fault lasts: half of them are over long before anybody takes the place of a pod.
func lasting(r *rand.Rand, most time.Duration) time.Duration {
	if r.IntN(2) == 0 {
		most /= 8
	}
	return between(r, faultMin, most)
}

func up(p *pod) bool { return p.life != nil }

// suspendable pods are those whose clock may stop. A lease keeper answers keep-alives by a clock that must not.
func suspendable(p *pod) bool { return up(p) && p.kind != config.LeaseKeeper }

// replaceable are lease keepers with another one that can take over.
func replaceable(p *pod) bool {
	return up(p) && p.kind == config.LeaseKeeper && slices.ContainsFunc(p.w.of(config.LeaseKeeper), func(o *pod) bool {
		return o != p && up(o) && !o.busy
	})
}

func down(p *pod) bool { return p.life == nil && p.generation == 0 && p.attempts == 0 }

// onPod is a fault of one pod; of several faults at a time each has another. The tailer is hit more often than others.
func onPod(
	may func(*pod) bool, do func(context.Context, *pod, *rand.Rand) error,
) func(context.Context, *world, *rand.Rand) error {
	return func(ctx context.Context, w *world, r *rand.Rand) error {
		var some []*pod
		for _, p := range w.pods {
			if p.busy || !may(p) {
				continue
			}
			some = append(some, p)
			if p.life != nil && p.kind == config.WatchHub && p.node.Tailing() {
				some = append(some, p, p)
			}
		}
		if len(some) == 0 {
			return nil
		}
		p := some[r.IntN(len(some))]
		p.busy = true
		defer func() { p.busy = false }()
		w.tracef(p.name, "is hit")
		return do(ctx, p, r)
	}
}

// part keeps what goes to a pod, or comes from it, from arriving.
func part(in, out bool) func(context.Context, *pod, *rand.Rand) error {
	return func(_ context.Context, p *pod, r *rand.Rand) error {
		defer partNow(p, in, out)()
		time.Sleep(lasting(r, pauseMax))
		return nil
	}
}

// partNow is part until over is called.
func partNow(p *pod, in, out bool) (over func()) {
	var shut []*podfaults.Gate
	for _, k := range p.w.linksOf(p.name) {
		to := k.to == p.name
		if in && to || out && !to {
			shut = append(shut, k.there)
		}
		if out && to || in && !to {
			shut = append(shut, k.back)
		}
	}
	for _, g := range shut {
		g.Pause()
	}
	return func() {
		for _, g := range shut {
			g.Resume()
		}
	}
}

// clog shuts random links one after the other, and opens them in another order.
func clog(_ context.Context, w *world, r *rand.Rand) error {
	var shut []*podfaults.Gate
	for _, p := range w.pods {
		for _, k := range w.linksOf(p.name) {
			if k.to == p.name && r.IntN(6) == 0 {
				shut = append(shut, []*podfaults.Gate{k.there, k.back}[r.IntN(2)])
			}
		}
	}
	for _, v := range shut {
		v.Pause()
		time.Sleep(between(r, 0, 20*time.Millisecond))
	}
	time.Sleep(lasting(r, pauseMax/2))
	r.Shuffle(len(shut), func(i, j int) { shut[i], shut[j] = shut[j], shut[i] })
	for _, v := range shut {
		v.Resume()
		time.Sleep(between(r, 0, 20*time.Millisecond))
	}
	return nil
}

func weatherFault(bad weather) func(context.Context, *world, *rand.Rand) error {
	return func(_ context.Context, w *world, r *rand.Rand) error {
		defer w.sky.spoil(bad)()
		time.Sleep(lasting(r, pauseMax))
		return nil
	}
}

// inject lets faults happen, several at a time, until the run's time is over, and returns when all of them have ended.
func (w *world) inject(ctx context.Context) error {
	r := w.rand("faults")
	// Some runs have few kinds of faults, or they would hide each other.
	all := allFaults
	if w.plan.disks {
		all = slices.Concat(allFaults, diskFaults)
	}
	some := slices.Clone(all)
	r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	some = some[:1+r.IntN(len(some))]
	if w.only != "" {
		kinds := strings.Split(w.only, ",")
		some = slices.DeleteFunc(slices.Clone(all), func(f fault) bool {
			return !slices.Contains(kinds, f.kind())
		})
		for _, kind := range kinds {
			if !slices.ContainsFunc(some, func(f fault) bool { return f.kind() == kind }) {
				return fmt.Errorf("there are no faults of the kind %q", kind)
			}
		}
	}
	until := time.Now().Add(w.duration)
	errs := make(chan error)
	n := 0
	for time.Now().Before(until) {
		time.Sleep(between(r, 20*time.Millisecond, gapMax))
		f, own := some[r.IntN(len(some))], rand.New(rand.NewPCG(r.Uint64(), 0))
		if n >= w.faultsMax {
			continue
		}
		n++
		w.tracef("fault", "%s", f.name)
		w.seen.note("fault: " + f.name)
		go func() {
			err := f.do(ctx, w, own)
			w.tracef("fault", "%s is over", f.name)
			errs <- err
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
