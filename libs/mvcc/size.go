package mvcc

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
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
	// Sizes returns the bytes on disk, and an estimate of how many of them hold live data.
	Sizes() (total, inUse int64)
}

// rangeSizer is what an engine that others use too offers instead.
type rangeSizer interface {
	// RangeSize estimates the bytes of the keys and values k, begin <= k < end; a nil end means to the end of the store.
	RangeSize(ctx context.Context, begin, end []byte) (int64, error)
}

// Sizes returns the engine's size on disk in bytes, and the live bytes (LiveBytes, or an estimate without
// FeatureSizes). Where the engine is shared with others (FoundationDB) the first is its estimate of the keyspace,
// history and log included, before replication, and the second at most that old (sizeAge) or the same. Zeros: the
// engine does not know.
func (s *Store) Sizes() (total, inUse int64) {
	switch z := s.eng.(type) {
	case Sizer:
		total, inUse = z.Sizes()
	case rangeSizer:
		total = s.size.get(func(ctx context.Context) (int64, error) {
			var end []byte
			if len(s.o.Prefix) > 0 {
				end = prefixEnd(s.o.Prefix)
			}
			return z.RangeSize(ctx, s.o.Prefix, end)
		})
		inUse = total
	}
	if s.Features().Has(FeatureSizes) {
		inUse = s.LiveBytes()
		if len(s.o.Prefix) > 0 {
			total = max(total, inUse) // an estimate of a part of a store leaves out what is in memory, and counts compressed bytes
		}
	}
	return total, inUse
}

// liveBytes is what a Store knows of the sum of its keyspace's rows.
type liveBytes struct {
	sum      atomic.Int64 // of durable groups, if this Store is the only writer
	reserved atomic.Int64 // what requests under way may add
	last     rangeSize    // if there are other writers
}

// LiveBytes returns the bytes of all that can still be read: keys and values of the rows of current and old versions,
// of the log and of leases, before any compression. Deleted and replaced versions count until a compaction has
// removed them. It is exact, in the state of a moment ago (on a shared engine sizeAge old at most); 0 without
// FeatureSizes.
func (s *Store) LiveBytes() int64 {
	switch {
	case !s.Features().Has(FeatureSizes):
		return 0
	case s.limits.Dense:
		return s.live.sum.Load()
	}
	return s.live.last.get(s.readLive)
}

// readLive reads the counter.
func (s *Store) readLive(ctx context.Context) (n int64, err error) {
	err = s.view(ctx, func(snap engine.Snapshot) error {
		row, err := snap.Get(ctx, s.sizeRow)
		if err != nil {
			return err
		}
		var ok bool
		if n, ok = engine.ParseCounter(row); !ok {
			return fmt.Errorf("%w: the counter of live bytes has %d bytes", ErrCorrupt, len(row))
		}
		return nil
	})
	return n, err
}

// loadLive takes over the counter at the start of a Store that will be the only writer.
func (s *Store) loadLive(ctx context.Context) error {
	if !s.limits.Dense || !s.Features().Has(FeatureSizes) {
		return nil
	}
	n, err := s.readLive(ctx)
	s.live.sum.Store(n)
	return err
}

// grew is called when a change of the live bytes has become durable.
func (s *Store) grew(f Features, n int64) {
	if f.Has(FeatureSizes) {
		s.live.sum.Add(n)
	}
}

// What a put adds to the live bytes beside its value and twice or thrice its key, at most: stamps, references, numbers.
const (
	putBytes   = 120
	leaseBytes = 32
)

// cost is what a request may add to the live bytes.
func (s *Store) cost(m mutation) int64 {
	switch r := m.(type) {
	case *PutRequest:
		return s.putCost(r)
	case *TxnRequest:
		return s.txnCost(r)
	}
	return leaseBytes
}

func (s *Store) putCost(p *PutRequest) int64 {
	n := len(p.Value)
	if n <= s.o.InlineBytes {
		n *= 2 // in the record and in the log
	}
	return int64(n + 3*len(p.Key) + putBytes)
}

// txnCost is that of the dearer branch, as in etcd.
func (s *Store) txnCost(t *TxnRequest) int64 { return max(s.opsCost(t.Success), s.opsCost(t.Failure)) }

func (s *Store) opsCost(ops []Op) (n int64) {
	for i := range ops {
		switch o := &ops[i]; {
		case o.Put != nil:
			n += s.putCost(o.Put)
		case o.Txn != nil:
			n += s.txnCost(o.Txn)
		}
	}
	return n
}

// reserve holds space for a request until its release, or refuses it.
func (s *Store) reserve(r *request, n int64) error {
	held := s.live.reserved.Add(n)
	r.reserved.Store(n)
	r.space = &s.live.reserved
	if s.Features().Has(FeatureSizes) && s.LiveBytes()+held > s.o.Quota {
		r.release()
		if s.o.OverQuota != nil {
			s.o.OverQuota()
		}
		return fmt.Errorf("%w: the quota is %d bytes", ErrNoSpace, s.o.Quota)
	}
	return nil
}

// release gives back what reserve holds, once. A request that nobody waits for any more keeps it until its group has
// landed, which may write it still.
func (r *request) release() {
	if r.space != nil {
		r.space.Add(-r.reserved.Swap(0))
	}
}

// rangeSize keeps the last answer to a question about sizes.
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
