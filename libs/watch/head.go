package watch

import (
	"context"
	"sync"
)

// headReader reads the head linearizably on behalf of many: a caller gets the answer of a read that began after its
// call did, and all that wait for the same read share it. So a storm of creations costs two reads at a time.
type headReader struct {
	read func(context.Context) (int64, error)
	base context.Context // of reads that run on behalf of several callers

	mu      sync.Mutex
	running bool
	next    *headRead // not begun yet; nil if nobody waits for one
}

type headRead struct {
	done chan struct{}
	rev  int64
	err  error
}

// get returns the head.
func (h *headReader) get(ctx context.Context) (int64, error) {
	h.mu.Lock()
	if !h.running {
		h.running = true
		h.mu.Unlock()
		rev, err := h.read(ctx)
		h.finish()
		return rev, err
	}
	if h.next == nil {
		h.next = &headRead{done: make(chan struct{})}
	}
	r := h.next
	h.mu.Unlock()
	select {
	case <-r.done:
		return r.rev, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// finish ends a read and runs the one that others wait for, detached from any caller.
func (h *headReader) finish() {
	h.mu.Lock()
	r := h.next
	h.next = nil
	if h.running = r != nil; !h.running {
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	go func() {
		r.rev, r.err = h.read(h.base)
		close(r.done)
		h.finish()
	}()
}
