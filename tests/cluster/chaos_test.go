package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// downMax is how long a killed pod or process stays away.
	downMax = 300 * time.Millisecond
	// pauseMin and pauseMax bound how long one is paused. The former is shorter than the tailer's term (1 s), the
	// latter longer. keeperPauseMax is longer than the terms of lease shards (2 s). A pod is cut off for up to half
	// as long again, so that a keeper may be away for longer than such a term and a lease after it.
	pauseMin, pauseMax = 200 * time.Millisecond, 1800 * time.Millisecond
	keeperPauseMax     = 3500 * time.Millisecond
	// tailerTimeout is how long a fault of the tailer waits until there is one.
	tailerTimeout = 5 * time.Second
)

// fault is something that happens to the stack, and its end.
type fault struct {
	name string
	hits string // the part that it hits; two faults at a time hit different parts
	do   func(ctx context.Context, s *stack, rnd *rand.Rand) error
}

// injected is a fault that happened.
type injected struct {
	name     string
	at, over time.Time
}

// faults are all kinds of them.
var allFaults = slices.Concat(
	podFaults("tailer", hub, pauseMax, (*stack).tailer),
	podFaults("hub", hub, pauseMax, anyOf(hub)),
	podFaults("kv", kv, pauseMax, anyOf(kv)),
	podFaults("keeper", keeper, pauseMax, anyOf(keeper)),
	[]fault{
		{"kill nats", "bus", func(ctx context.Context, s *stack, rnd *rand.Rand) error {
			return errors.Join(s.nats.Kill(), wait(ctx, rnd, 0, downMax), s.nats.Start())
		}},
		{"pause nats", "bus", func(ctx context.Context, s *stack, rnd *rand.Rand) error {
			return errors.Join(s.nats.Pause(), wait(ctx, rnd, pauseMin, pauseMax), s.nats.Resume())
		}},
		{"mute bus", "bus", func(ctx context.Context, s *stack, rnd *rand.Rand) error {
			s.mute.Store(true)
			defer s.mute.Store(false)
			return wait(ctx, rnd, pauseMin, pauseMax)
		}},
	},
)

// faultsNamed are some of allFaults.
func faultsNamed(names ...string) (some []fault) {
	for _, f := range allFaults {
		if slices.Contains(names, f.name) {
			some = append(some, f)
		}
	}
	return some
}

func anyOf(r role) func(*stack, *rand.Rand) *member {
	return func(s *stack, rnd *rand.Rand) *member { return s.pods[r][rnd.IntN(len(s.pods[r]))] }
}

func podFaults(name string, r role, pauseMax time.Duration, pick func(*stack, *rand.Rand) *member) []fault {
	hits := string(r)
	return []fault{
		{"kill " + name, hits, func(ctx context.Context, s *stack, rnd *rand.Rand) error {
			m := pick(s, rnd)
			s.kill(m)
			return errors.Join(wait(ctx, rnd, 0, downMax), s.start(ctx, m))
		}},
		{"pause " + name, hits, func(ctx context.Context, s *stack, rnd *rand.Rand) error {
			m := pick(s, rnd)
			m.gate.Pause()
			defer m.gate.Resume()
			return wait(ctx, rnd, pauseMin, pauseMax)
		}},
		{"cut off " + name, hits, func(ctx context.Context, s *stack, rnd *rand.Rand) error {
			defer pick(s, rnd).view.Cut()()
			return wait(ctx, rnd, pauseMin, pauseMax*3/2)
		}},
		{"drain " + name, hits, func(ctx context.Context, s *stack, rnd *rand.Rand) error {
			m := pick(s, rnd)
			return errors.Join(s.drain(ctx, m), wait(ctx, rnd, 0, downMax), s.start(ctx, m))
		}},
	}
}

// inject makes every kind of fault happen once, in random order, each after some progress. Then it makes two at a time
// while goesOn returns true. It leaves everything running.
func (s *stack) inject(ctx context.Context, rnd *rand.Rand, kinds []fault, goesOn func() bool,
	progress func() error,
) (done []injected, err error) {
	order := rnd.Perm(len(kinds))
	for i := 0; i < len(order) || goesOn(); i++ {
		if err := progress(); err != nil {
			return done, err
		}
		if len(kinds) == 0 {
			continue
		}
		var f fault
		if i < len(order) {
			f = kinds[order[i]]
		} else {
			f = two(rnd, kinds)
		}
		s.logf("fault: %s", f.name)
		in := injected{name: f.name, at: time.Now()}
		if err := f.do(ctx, s, rnd); err != nil {
			return done, fmt.Errorf("%s: %w", f.name, err)
		}
		in.over = time.Now()
		s.logf("fault over: %s, %v", f.name, in.over.Sub(in.at).Round(time.Millisecond))
		done = append(done, in)
	}
	return done, progress()
}

// two picks two random faults and joins them. If both hit the same part, it returns the first alone.
func two(rnd *rand.Rand, kinds []fault) fault {
	a, b := kinds[rnd.IntN(len(kinds))], kinds[rnd.IntN(len(kinds))]
	if a.hits == b.hits {
		return a
	}
	return fault{name: a.name + ", " + b.name, do: func(ctx context.Context, s *stack, rnd *rand.Rand) error {
		other := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		second := make(chan error, 1)
		go func() { second <- b.do(ctx, s, other) }()
		return errors.Join(a.do(ctx, s, rnd), <-second)
	}}
}

// wait lets a random time pass: the length of a fault.
func wait(ctx context.Context, rnd *rand.Rand, lo, hi time.Duration) error {
	timer := time.NewTimer(lo + time.Duration(rnd.Int64N(int64(hi-lo))))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
