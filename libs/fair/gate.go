package fair

import (
	"context"
	"sync"
	"sync/atomic"
)

// Gate limits the number of turns that are under way. A Ring decides whose turn is next.
type Gate struct {
	free    atomic.Int64 // places; below 0 for a moment while somebody looks for one, and after Open
	waiting atomic.Int64 // tickets in the ring; it changes under mu
	open    atomic.Bool

	mu   sync.Mutex
	ring *Ring
}

// NewGate returns a gate with a number of places, at least one. quantum is what a flow of weight 1 may take at each
// visit.
func NewGate(places int, quantum int64) *Gate {
	g := &Gate{ring: NewRing(quantum)}
	g.free.Store(int64(max(places, 1)))
	return g
}

// Waiting returns how many tickets wait for a turn.
func (g *Gate) Waiting() int { return int(g.waiting.Load()) }

// Flow takes turns at a gate.
type Flow struct {
	g *Gate
	m Member // under g.mu
}

// Flow returns a flow of a weight; 0 is 1.
func (g *Gate) Flow(weight uint32) *Flow { return &Flow{g: g, m: Member{weight: int64(weight)}} }

// SetWeight changes the weight. The new one counts from the flow's next visit on.
func (f *Flow) SetWeight(weight uint32) {
	f.g.mu.Lock()
	defer f.g.mu.Unlock()
	f.m.weight = int64(weight)
}

// Weight returns the flow's weight.
func (f *Flow) Weight() uint32 {
	f.g.mu.Lock()
	defer f.g.mu.Unlock()
	return uint32(f.m.share())
}

// Enter waits for a turn. The turn costs least, or up to most if the flow may take as much; got is what it may take.
// The caller then calls Leave, from any goroutine. Until then it must not wait for another turn at this gate. Errors:
// the context's; then there is no turn.
func (f *Flow) Enter(ctx context.Context, least, most int64) (got int64, err error) {
	g := f.g
	if g.waiting.Load() == 0 && g.take() {
		return max(most, least), nil
	}
	return f.wait(ctx, least, most)
}

// Open with true lets everybody in at once, whether a place is free or not. With false it ends that.
func (g *Gate) Open(open bool) {
	g.open.Store(open)
	if open && g.waiting.Load() > 0 {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admit()
	}
}

// take takes a place if one is free.
func (g *Gate) take() bool {
	if g.free.Add(-1) >= 0 || g.open.Load() {
		return true
	}
	g.free.Add(1)
	return false
}

func (f *Flow) wait(ctx context.Context, least, most int64) (int64, error) {
	g := f.g
	t := &Ticket{ready: make(chan struct{})}
	g.mu.Lock()
	g.ring.Push(&f.m, t, least, most)
	g.waiting.Store(int64(g.ring.Len())) // before it reads free: Leave does it in the opposite order
	g.admit()
	g.mu.Unlock()
	select {
	case <-t.ready:
		return t.got, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	removed := g.ring.Remove(t)
	g.waiting.Store(int64(g.ring.Len()))
	g.mu.Unlock()
	if !removed { // the turn came in the meantime
		f.Leave()
	}
	return 0, ctx.Err()
}

// admit gives free places to those who wait. mu is held.
func (g *Gate) admit() {
	for g.ring.Len() > 0 && g.take() {
		t, _ := g.ring.Next()
		g.waiting.Store(int64(g.ring.Len())) // a ticket that has its turn does not wait any more
		close(t.ready)
	}
}

// Leave ends a turn.
func (f *Flow) Leave() {
	g := f.g
	g.free.Add(1)
	if g.waiting.Load() > 0 {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admit()
	}
}

// Charge corrects the cost of the present turn to what it has really cost, more or less than its ticket.
func (f *Flow) Charge(cost int64) {
	if f.g.waiting.Load() == 0 {
		return
	}
	f.g.mu.Lock()
	defer f.g.mu.Unlock()
	f.g.ring.Charge(&f.m, cost)
}
