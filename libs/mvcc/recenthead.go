package mvcc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Times of RecentHead.
const (
	// RecentHeadMax is how old the answer of RecentHead may be: a read that found nothing newer has begun at most this
	// long before the call.
	RecentHeadMax = time.Second
	// recentHeadFresh is the age from which a call starts a read of the head in the background, so that later calls
	// need not wait. There is one read in that time, however many calls there are.
	recentHeadFresh = 100 * time.Millisecond
)

// recentHead is the newest revision that a Store knows: one that it has answered with or has read as the head.
type recentHead struct {
	rev atomic.Int64
	at  atomic.Int64 // start of the newest read whose head is not above rev, on the Store's clock; 0: none

	start time.Time

	mu     sync.Mutex
	read   *headRead // under way
	closed bool
}

// headRead is one read of the head, for all callers who wait for it.
type headRead struct {
	done chan struct{} // closed when err is set
	err  error
}

// knew records a revision that is committed and durable.
func (h *recentHead) knew(rev int64) { raise(&h.rev, rev) }

// raise makes v at least n.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// now is the time since the Store was opened, > 0.
func (h *recentHead) now() int64 { return int64(time.Since(h.start)) + 1 }

// age is the greatest age of the revision at the time of a call. It is negative if the read began after the call.
func (h *recentHead) age(called int64) time.Duration {
	at := h.at.Load()
	if at == 0 {
		return RecentHeadMax + 1
	}
	return time.Duration(called - at)
}

// RecentHead returns a committed revision. It is not below any revision that this Store has answered with before the
// call, nor below the head RecentHeadMax before the call. It serves headers that only have to be ordered before what
// follows them. An embedded engine is asked each time. Over a network one read serves many calls, and a call waits for
// a read only if none has ended lately. Errors: as Head.
func (s *Store) RecentHead(ctx context.Context) (int64, error) {
	if s.limits.Dense {
		return s.Head(ctx)
	}
	h := &s.recentHead
	for called := h.now(); ; {
		age := h.age(called)
		if age <= recentHeadFresh {
			return h.rev.Load(), nil
		}
		r := s.refreshHead()
		if age <= RecentHeadMax {
			return h.rev.Load(), nil
		}
		if r == nil {
			return 0, ErrClosed
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if r.err != nil {
			return 0, r.err
		}
	}
}

// refreshHead starts a read of the head unless one is under way, and returns it. It returns nil after Close.
func (s *Store) refreshHead() *headRead {
	h := &s.recentHead
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	if h.read != nil {
		return h.read
	}
	r := &headRead{done: make(chan struct{})}
	h.read = r
	s.wg.Go(func() {
		begun := h.now()
		_, err := s.Head(s.closing) // Head records the revision
		if err == nil {
			raise(&h.at, begun)
		}
		h.mu.Lock()
		h.read = nil
		h.mu.Unlock()
		r.err = err
		close(r.done)
	})
	return r
}

// close makes sure that no further read begins.
func (h *recentHead) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}
