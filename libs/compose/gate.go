package compose

import (
	"sync"

	"github.com/headwaterdb/headwater/libs/watch"
)

// gate stands between the Watch service and the hub, which may be replaced. It is open while there is a hub and nothing
// keeps it shut. While it is shut there are no streams. Each reason to keep it shut is a state of its own: when the hub
// has caught up, the gate stays shut if there is another reason. Its methods may be called from any goroutine.
type gate struct {
	mu  sync.Mutex
	hub *watch.Hub // nil: there is none yet

	behind   bool // the hub is behind the log
	draining bool // the pod is stopping; for good
}

// shut says whether nobody may enter. The caller holds mu.
func (g *gate) shut() bool { return g.behind || g.draining || g.hub == nil }

// OpenOn opens a stream of the present hub. It implements etcdapi.WatchHub.
func (g *gate) OpenOn(conn any) (*watch.Stream, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut() {
		return nil, watch.ErrStopped
	}
	return g.hub.OpenOn(conn)
}

// replace makes hub the present one, and drains the previous one; nil: there was none.
func (g *gate) replace(hub *watch.Hub) (old *watch.Hub) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, g.hub = g.hub, hub
	if old != nil {
		old.Drain()
	}
	return old
}

// stall ends all streams and refuses new ones while the hub is behind the log.
func (g *gate) stall(behind bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.behind = behind; behind {
		g.interrupt()
	}
}

// drain ends all streams and refuses new ones for good.
func (g *gate) drain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
	g.interrupt()
}

// interrupt ends all streams. The caller holds mu.
func (g *gate) interrupt() {
	if g.hub != nil {
		g.hub.Interrupt()
	}
}

// present returns the hub, or nil.
func (g *gate) present() *watch.Hub {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hub
}
