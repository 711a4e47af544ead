package mvcc

import (
	"context"
	"sync"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/revlog"
)

// HeldValues reads values as they were at one moment, whatever has been removed since, until Release; then as
// Store.ReadValues. Its methods may be called from any goroutine.
type HeldValues struct {
	s    *Store
	mu   sync.Mutex
	snap engine.Snapshot // nil: released
	full func()          // ends the frugality
}

// heldGrowth bounds by how much a cache of the engine grows by reads of held values.
const heldGrowth = 8 << 20

// frugal keeps a cache of the engine from growing by more than so many bytes, if it can, until release.
func (s *Store) frugal(growth int64) (release func()) {
	if f, ok := s.eng.(engine.Frugal); ok {
		return f.Frugal(growth)
	}
	return func() {}
}

// HoldValues holds the values that there are now. What is removed keeps its space until Release, which must come before
// the store is closed. Errors: ErrUnavailable, the context's.
func (s *Store) HoldValues(ctx context.Context) (*HeldValues, error) {
	snap, err := s.eng.Snapshot(ctx)
	if err != nil {
		return nil, storeErr(err)
	}
	return &HeldValues{s: s, snap: snap, full: s.frugal(heldGrowth)}, nil
}

// Release lets the values go.
func (h *HeldValues) Release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.snap != nil {
		h.snap.Close()
		h.full()
		h.snap = nil
	}
}

// ReadValues is that of Store.
func (h *HeldValues) ReadValues(ctx context.Context, kvs []*revlog.KV) ([][]byte, error) {
	values, held, err := h.read(ctx, kvs)
	if !held {
		return h.s.ReadValues(ctx, kvs)
	}
	return values, err
}

func (h *HeldValues) read(ctx context.Context, kvs []*revlog.KV) (values [][]byte, held bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.snap == nil {
		return nil, false, nil
	}
	values = make([][]byte, len(kvs))
	for done := 0; done < len(kvs) && err == nil; {
		var n int
		n, err = h.s.readSome(ctx, h.snap, kvs[done:], values[done:])
		done += n
	}
	return values, true, wanted("a value of the history", h.s.noted(storeErr(err)))
}
