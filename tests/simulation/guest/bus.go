//go:build wasip1 || headwater_simulation

package main

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/tests/internal/podfaults"
)

// weather is how the bus is: probabilities per frame and subscription, and per nudge.
type weather struct {
	drop, double, late float64
	lateMax            time.Duration
	mute               bool
}

var (
	fair  = weather{drop: 0.02, double: 0.02, late: 0.05, lateMax: 30 * time.Millisecond}
	storm = weather{drop: 0.3, double: 0.3, late: 0.5, lateMax: 400 * time.Millisecond}
	still = weather{}
)

// sky is the bus of all pods.
type sky struct {
	*bus.Local
	seen *seen

	usual weather

	mu     sync.Mutex
	now    weather
	spoilt int // by how many faults at a time
	rnd    *rand.Rand
}

func newSky(s *seen, rnd *rand.Rand, usual weather) *sky {
	return &sky{Local: bus.NewLocal(), seen: s, rnd: rnd, usual: usual, now: usual}
}

// spoil makes the weather bad. It is as usual again when all who have spoilt it say that it is over.
func (s *sky) spoil(bad weather) (over func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = bad
	s.spoilt++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.spoilt--; s.spoilt == 0 {
			s.now = s.usual
		}
	}
}

// fate is when a frame arrives at a subscription: never, once or twice.
func (s *sky) fate() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.now
	if w.mute || s.rnd.Float64() < w.drop {
		s.seen.note("bus: frame lost")
		return nil
	}
	n := 1
	if s.rnd.Float64() < w.double {
		s.seen.note("bus: frame doubled")
		n = 2
	}
	var at []time.Duration
	for range n {
		d := 20*time.Microsecond + time.Duration(s.rnd.Int64N(int64(200*time.Microsecond)))
		if s.rnd.Float64() < w.late {
			s.seen.note("bus: frame late")
			d += time.Duration(s.rnd.Int64N(int64(w.lateMax)))
		}
		at = append(at, d)
	}
	return at
}

// podBus is one pod's end of the bus, behind the pod's gate.
type podBus struct {
	*sky
	g *podfaults.Gate
}

// Publish implements bus.Bus.
func (b podBus) Publish(f *bus.Frame) error {
	if !b.g.Pass() {
		return nil
	}
	return b.Local.Publish(f)
}

// Subscribe implements bus.Bus. A frame that is late is overtaken by others; deliver is called from one goroutine at
// a time.
func (b podBus) Subscribe(keyspace string, deliver func(*bus.Frame)) (cancel func(), err error) {
	var mu sync.Mutex
	ended := false
	stop, err := b.Local.Subscribe(keyspace, func(f *bus.Frame) {
		for _, d := range b.fate() {
			time.AfterFunc(d, func() {
				if !b.g.Pass() {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if !ended {
					deliver(f)
				}
			})
		}
	})
	if err != nil {
		return nil, err
	}
	return func() {
		stop()
		mu.Lock()
		defer mu.Unlock()
		ended = true
	}, nil
}

// Nudge implements bus.Bus.
func (b podBus) Nudge(keyspace string) {
	if b.g.Pass() && len(b.fate()) > 0 {
		b.Local.Nudge(keyspace)
	}
}

// OnNudge implements bus.Bus.
func (b podBus) OnNudge(keyspace string, nudged func()) (cancel func(), err error) {
	return b.Local.OnNudge(keyspace, func() {
		go func() {
			if b.g.Pass() {
				nudged()
			}
		}()
	})
}

// Close implements bus.Bus: the bus is not the pod's.
func (b podBus) Close() error { return nil }
