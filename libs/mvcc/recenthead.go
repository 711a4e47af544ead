package mvcc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Times of RecentHead.
const (
	// RecentHeadMax is how old the answer of RecentHead may be: how long before the call a read has begun that found
	// nothing newer.
	RecentHeadMax = time.Second
	// recentHeadFresh is from when on a call has the head read beside it, so that calls that follow one another need
	// not wait: one read in that time, however many they are.
	recentHeadFresh = 100 * time.Millisecond
)

// recentHead is the newest revision that a Store has met: one that it has answered with or has read as the head.
type recentHead struct {
	rev atomic.Int64
	at  atomic.Int64 // when the read began that rev is at least the head of, on the Store's clock; 0: none

	start time.Time

	mu     sync.Mutex
	read   *headRead // under way
	closed bool
}

// headRead is one read for all who wait.
type headRead struct {
	done chan struct{} // closed when err is set
	err  error
}

// knew notes a revision that is committed and durable.
func (h *recentHead) knew(rev int64) { raise(&h.rev, rev) }

// raise makes v at least n.
func raise(v *atomic.Int64, n int64) {
	for old := v.Load(); n > old && !v.CompareAndSwap(old, n); old = v.Load() {
	}
}

// now is the time since the Store was opened, > 0.
func (h *recentHead) now() int64 { return int64(time.Since(h.start)) + 1 }

// age is how old the revision is at most, at the time of a call; below 0 if the read has begun after that.
func (h *recentHead) age(called int64) time.Duration {
	at := h.at.Load()
	if at == 0 {
		return RecentHeadMax + 1
	}
	return time.Duration(called - at)
}

// RecentHead returns a revision that was committed before it returns: not below any that this Store has answered with
// before the call, nor below the head RecentHeadMax before it. It is for headers that have to be ordered before what
// follows them and nothing else. An embedded engine is asked each time; over a network one read serves all calls of a
// while, and a call waits for one only if none has ended lately. Errors: as Head.
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

// refreshHead begins to read the head unless that is under way, and returns the read; nil after Close.
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
		_, err := s.Head(s.closing) // which notes the revision
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

// close makes sure that no read begins.
func (h *recentHead) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}
