package mvcc

import (
	"context"
	"sync"
	"time"
)

// Limits of asking an engine for the size of the keyspace.
const (
	// sizeAge is how old an answer may be: sizes are asked for by dashboards and scrapes, not to decide anything.
	sizeAge = 10 * time.Second
	// sizeTimeout bounds the wait for an answer; without one the last one counts.
	sizeTimeout = time.Second
)

// Sizer is what an engine that knows its size on disk offers beside engine.Store.
type Sizer interface {
	// Sizes returns the bytes on disk, and how many of them hold live data.
	Sizes() (total, inUse int64)
}

// rangeSizer is what an engine that others use too offers instead.
type rangeSizer interface {
	// RangeSize estimates the bytes of the keys and values k, begin <= k < end; a nil end means to the end of the store.
	RangeSize(ctx context.Context, begin, end []byte) (int64, error)
}

// Sizes returns the engine's size on disk in bytes, and what of it live data takes; or the estimated size of the keyspace, its history and log
// included, twice, if the engine is shared with others (FoundationDB: before replication; sizeAge old at most, if the engine answers); or zeros if the
// engine does not know.
func (s *Store) Sizes() (total, inUse int64) {
	switch z := s.eng.(type) {
	case Sizer:
		return z.Sizes()
	case rangeSizer:
		size := s.size.get(func(ctx context.Context) (int64, error) {
			var end []byte
			if len(s.o.Prefix) > 0 {
				end = prefixEnd(s.o.Prefix)
			}
			return z.RangeSize(ctx, s.o.Prefix, end)
		})
		return size, size
	}
	return 0, 0
}

// rangeSize keeps the last answer of a rangeSizer.
type rangeSize struct {
	mu    sync.Mutex
	asked time.Time // zero: never
	bytes int64
}

// get returns the last answer, and asks for a new one if that is too old. Who comes meanwhile waits for it.
func (r *rangeSize) get(ask func(context.Context) (int64, error)) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked.IsZero() && time.Since(r.asked) < sizeAge {
		return r.bytes
	}
	ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
	defer cancel()
	if n, err := ask(ctx); err == nil {
		r.bytes = n
	}
	r.asked = time.Now() // after a failure too: not every caller is to wait for an engine that is away
	return r.bytes
}
