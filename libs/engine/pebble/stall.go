package pebble

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/headwaterdb/headwater/libs/engine"
)

// l0Stop is how many tables of the first level a lookup may have to read before commits wait for compactions. Pebble
// has such a bound too. But Pebble's bound also holds when no compaction can help: one damaged table in that level
// would stop all writes for good. (Pebble is given pebbleStop instead.)
const (
	l0Stop     = 48
	pebbleStop = 1 << 20
)

// stall makes commits wait while compactions are behind.
type stall struct {
	on     atomic.Bool
	looked chan struct{} // capacity 1: the levels have changed since the last check

	mu    sync.Mutex
	ended chan struct{} // closed when the stall ends; nil: no stall
}

func newStall() *stall { return &stall{looked: make(chan struct{}, 1)} }

// changed reports that the levels have changed. It never waits.
func (w *stall) changed() {
	select {
	case w.looked <- struct{}{}:
	default:
	}
}

// set begins or ends a stall. It reports whether that was a change.
func (w *stall) set(on bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if on == (w.ended != nil) {
		return false
	}
	if on {
		w.ended = make(chan struct{})
	} else {
		close(w.ended)
		w.ended = nil
	}
	w.on.Store(on)
	return true
}

// end returns a channel that is closed when the stall ends; nil if there is none.
func (w *stall) end() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// watchLevels checks the first level after each flush and compaction until the store is closed. Commits do not wait for
// compactions that fail because of damage.
func (s *Store) watchLevels() {
	for {
		select {
		case <-s.stall.looked:
		case <-s.stop:
			s.stall.set(false)
			return
		}
		if s.failure.Load() != nil {
			continue
		}
		s.swapping.RLock()
		deep := s.db.Metrics().Levels[0].Sublevels >= l0Stop
		s.swapping.RUnlock()
		// Waiting for compactions that fail, because of damage or lack of space, is useless. Commits are then refused
		// (space.stuck).
		if s.stall.set(deep && s.damage.failures.Load() == 0 && !s.space.noCompact.Load()) && deep {
			s.log.Warn("writes wait for the disk", "reason", "compactions are behind")
		}
	}
}

// awaitCompactions returns nil when a commit may be applied.
func (s *Store) awaitCompactions(ctx context.Context) error {
	for s.stall.on.Load() {
		end := s.stall.end()
		if end == nil {
			continue // it has just ended
		}
		select {
		case <-end:
		case <-s.failed:
			return s.err()
		case <-s.stop:
			return engine.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
