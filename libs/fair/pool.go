package fair

import "sync"

// Fits tells whether a flow that holds own may take n more where all flows together hold used of limit. Alone it may
// take all that is free. Where it shares with others it may hold no more than it leaves free (dynamic thresholds,
// Choudhury and Hahne, 1998, with the factor 1): what is held cannot be asked back, so that something must be left for
// who comes next. One flow has up to half of it, a second up to half of the rest, and so on.
func Fits(own, used, n, limit int64, shared bool) bool {
	free := limit - used - n
	return free >= 0 && (!shared || own+n <= free)
}

// Pool is a number of units that flows hold for as long as they like: places, bytes. Its methods and those of its
// Holdings may be called from any goroutine; its lock is a leaf.
type Pool struct {
	size   int64
	shared func() bool

	mu   sync.Mutex
	used int64
}

// NewPool returns a pool of so many units. shared tells whether there may be more flows than one (nil: there is one);
// it is called outside the pool's lock.
func NewPool(size int64, shared func() bool) *Pool {
	if shared == nil {
		shared = func() bool { return false }
	}
	return &Pool{size: size, shared: shared}
}

// Used is how many units are held.
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

// Holding returns that of a flow, which holds nothing yet.
func (p *Pool) Holding() *Holding { return &Holding{p: p} }

// Take takes n units; false: there is no room, or the flow has its part. What is more than there may be goes when
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

// Give gives units back that Take has taken.
func (h *Holding) Give(n int64) {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.p.used -= n
	h.held -= n
}
