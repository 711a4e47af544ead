package compose

import (
	"sync"

	"github.com/headwaterdb/headwater/libs/watch"
)

// gate stands between the Watch service and the hub, which may be replaced. While it is shut there are no streams. Its
// methods may be called from any goroutine.
type gate struct {
	mu   sync.Mutex
	hub  *watch.Hub // nil: there is none yet
	shut bool
}

// OpenOn opens a stream of the present hub. It implements etcdapi.WatchHub.
func (g *gate) OpenOn(conn any) (*watch.Stream, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut || g.hub == nil {
		return nil, watch.ErrStopped
	}
	return g.hub.OpenOn(conn)
}

// replace makes hub the present one and drains the one before; nil: none.
func (g *gate) replace(hub *watch.Hub) (old *watch.Hub) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old, g.hub = g.hub, hub
	if old != nil {
		old.Drain()
	}
	return old
}

// close ends all streams and refuses new ones until open.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	if g.hub != nil {
		g.hub.Interrupt()
	}
}

// open lets streams in again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// present is the hub, or nil.
func (g *gate) present() *watch.Hub {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hub
}
