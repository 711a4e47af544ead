package fair

import "sync"

// Fits says whether a flow that holds own units may take n more, when all flows together hold used units of limit. A
// flow that shares with nobody may take all that is free. Otherwise it may hold no more than it leaves free (dynamic
// thresholds, Choudhury and Hahne, 1998, with factor 1). What is held cannot be taken back, so something must be left
// for the next flow. One flow gets up to half, a second up to half of the rest, and so on.
func Fits(own, used, n, limit int64, shared bool) bool {
	free := limit - used - n
	return free >= 0 && (!shared || own+n <= free)
}

// Pool is a number of units, such as places or bytes, that flows hold for as long as they like. Its methods and those
// of its Holdings may be called from any goroutine. Nothing is called while its lock is held.
type Pool struct {
	size   int64
	shared func() bool

	mu   sync.Mutex
	used int64
}

// NewPool returns a pool of size units. shared says whether there may be more than one flow (nil: there is one). It is
// called without the pool's lock.
func NewPool(size int64, shared func() bool) *Pool {
	if shared == nil {
		shared = func() bool { return false }
	}
	return &Pool{size: size, shared: shared}
}

// Used returns how many units are held.
func (p *Pool) Used() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// Holding is what a flow holds of a Pool.
type Holding struct {
	p    *Pool
	held int64 // under p.mu
}

// Holding returns the holding of a new flow, which holds nothing yet.
func (p *Pool) Holding() *Holding { return &Holding{p: p} }

// Take takes n units. false: there is no room, or the flow has its share. A flow may take more than the pool has if
// nobody holds anything.
func (h *Holding) Take(n int64) bool {
	shared := h.p.shared()
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	if h.p.used > 0 && !Fits(h.held, h.p.used, n, h.p.size, shared) {
		return false
	}
	h.p.used += n
	h.held += n
	return true
}

// Give returns units that Take has taken.
func (h *Holding) Give(n int64) {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.p.used -= n
	h.held -= n
}
