package cluster

import "sync"

// gate is what everything passes that goes into or out of one incarnation of a pod. It is open, closed (the pod is paused)
// or shut for ever (killed).
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the pod runs
	dead chan struct{} // closed by kill
}

func newGate() *gate {
	g := &gate{open: make(chan struct{}), dead: make(chan struct{})}
	close(g.open)
	return g
}

// pass waits while the pod is paused, whatever contexts say: a process that does not run does not see them end. It reports
// false if the pod has been killed.
func (g *gate) pass() bool {
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

func (g *gate) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default:
	}
}

func (g *gate) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

func (g *gate) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.dead:
	default:
		close(g.dead)
	}
}
