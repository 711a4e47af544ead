package podfaults

import "sync"

// Gate lets pass everything that goes into or out of one incarnation of a pod. It is open, closed (the pod is paused)
// or shut for ever (the pod is killed).
type Gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the pod runs
	dead chan struct{} // closed by kill
}

// NewGate returns an open gate.
func NewGate() *Gate {
	g := &Gate{open: make(chan struct{}), dead: make(chan struct{})}
	close(g.open)
	return g
}

// Pass waits while the pod is paused, even if contexts end, because a process that does not run does not see that. It
// returns false if the pod has been killed.
func (g *Gate) Pass() bool {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-g.dead:
		return false
	default:
	}
	select {
	case <-open:
		return true
	case <-g.dead:
		return false
	}
}

// Pause closes the gate, if it is open.
func (g *Gate) Pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default:
	}
}

// Resume opens the gate, if it is closed.
func (g *Gate) Resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// Kill shuts the gate for ever. It may be called more than once.
func (g *Gate) Kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.dead:
	default:
		close(g.dead)
	}
}
