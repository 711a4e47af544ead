package cluster

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/headwaterdb/headwater/libs/bus"
)

// Probabilities of mishaps. Those of frames apply when a pod sends and again when a subscription receives; the last one
// is per nudge.
const (
	dropFrame, doubleFrame, holdFrame = 0.03, 0.03, 0.04
	dropNudge                         = 0.2
)

// mishaps counts what the pods' buses did to frames.
type mishaps struct{ passed, dropped, doubled, reordered atomic.Int64 }

// unreliable is one pod's view of the bus. It loses, doubles and reorders frames, and everything passes the pod's gate.
type unreliable struct {
	bus.Bus
	g     *gate
	count *mishaps
	mute  *atomic.Bool // loses everything while set
	out   channel
	seed  atomic.Uint64
}

func newUnreliable(inner bus.Bus, g *gate, seed uint64, count *mishaps, mute *atomic.Bool) *unreliable {
	u := &unreliable{Bus: inner, g: g, count: count, mute: mute}
	u.seed.Store(seed)
	u.out.init(u)
	return u
}

// channel is a one-way stream of frames in which mishaps happen.
type channel struct {
	u    *unreliable
	mu   sync.Mutex
	rnd  *rand.Rand
	held *bus.Frame // goes after the next one
}

func (c *channel) init(u *unreliable) {
	c.u, c.rnd = u, rand.New(rand.NewPCG(u.seed.Add(1), 0))
}

// next returns the frames that arrive when f is sent, in their order.
func (c *channel) next(f *bus.Frame) []*bus.Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.rnd.Float64()
	if c.u.mute.Load() {
		x = 0
	}
	out := []*bus.Frame{f}
	switch {
	case x < dropFrame:
		c.u.count.dropped.Add(1)
		out = nil
	case x < dropFrame+doubleFrame:
		c.u.count.doubled.Add(1)
		out = append(out, f)
	case x < dropFrame+doubleFrame+holdFrame && c.held == nil:
		c.u.count.reordered.Add(1)
		c.held = f
		return nil
	default:
		c.u.count.passed.Add(1)
	}
	if c.held != nil && len(out) > 0 {
		out = append(out, c.held)
		c.held = nil
	}
	return out
}

// loses reports whether a nudge gets lost.
func (c *channel) loses() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.u.mute.Load() || c.rnd.Float64() < dropNudge
}

// Publish implements bus.Bus.
func (u *unreliable) Publish(f *bus.Frame) error {
	if !u.g.Pass() {
		return nil
	}
	for _, f := range u.out.next(f) {
		if err := u.Bus.Publish(f); err != nil {
			return err
		}
	}
	return nil
}

// Subscribe implements bus.Bus.
func (u *unreliable) Subscribe(keyspace string, deliver func(*bus.Frame)) (cancel func(), err error) {
	in := &channel{}
	in.init(u)
	return u.Bus.Subscribe(keyspace, func(f *bus.Frame) {
		for _, f := range in.next(f) {
			if u.g.Pass() {
				deliver(f)
			}
		}
	})
}

// Nudge implements bus.Bus.
func (u *unreliable) Nudge(keyspace string) {
	if u.g.Pass() && !u.out.loses() {
		u.Bus.Nudge(keyspace)
	}
}

// OnNudge implements bus.Bus.
func (u *unreliable) OnNudge(keyspace string, nudged func()) (cancel func(), err error) {
	return u.Bus.OnNudge(keyspace, func() {
		if u.g.Pass() {
			nudged()
		}
	})
}
