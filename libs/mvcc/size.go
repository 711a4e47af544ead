package mvcc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Limits on asking an engine for the size of the keyspace.
const (
	// sizeAge is how old an answer may be. Sizes are for dashboards and scrapes; nothing is decided by them.
	sizeAge = 10 * time.Second
	// sizeTimeout bounds the wait for an answer. After it the last answer is used.
	sizeTimeout = time.Second
)

// Sizer is implemented by an engine that knows its size on disk, besides engine.Store.
type Sizer interface {
	// Sizes returns the bytes on disk, and an estimate of how many of them hold live data.
	Sizes() (total, inUse int64)
}

// rangeSizer is implemented instead by an engine that is shared with others.
type rangeSizer interface {
	// RangeSize estimates the bytes of the keys and values k, begin <= k < end; a nil end means to the end of the
	// store.
	RangeSize(ctx context.Context, begin, end []byte) (int64, error)
}

// Sizes returns the engine's size on disk in bytes, and the live bytes (LiveBytes, or an estimate without
// FeatureSizes). On a shared engine (FoundationDB) the first is the engine's estimate for the keyspace, with history
// and log and before replication, and both may be sizeAge old. The first is never below the second. Both are zero if
// the engine does not know.
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
	}
	// Files are compressed, and an estimate for a part of a store leaves out what is in memory.
	return max(total, inUse), inUse
}

// liveBytes is what a Store knows about the sum of its keyspace's rows.
type liveBytes struct {
	// sum is the sum of durable groups if this Store is the only writer. Otherwise it is what this Store's groups have
	// added, from an arbitrary start.
	sum      atomic.Int64
	reserved atomic.Int64 // what requests under way may add
	others   rangeSize    // with other writers: the counter minus sum

	mu    sync.Mutex
	tried []*removed // removals whose outcome is not known yet
}

// removedTo is how far removals have come: the values of the rows compacted and part.
type removedTo struct{ next, partRev, partEvents int64 }

// removed is a removal that may have happened.
type removed struct {
	to      removedTo
	freed   int64 // live bytes
	counted bool
}

// try records a removal before it is committed.
func (l *liveBytes) try(r *removed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tried = append(l.tried, r)
}

// found is told how far removals have come. A removal with an unknown outcome has happened if it led exactly there. All
// other removals are forgotten: they have not happened, another Store has come further, or they are under way and the
// Store that runs them will learn how they end.
func (l *liveBytes) found(at removedTo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.tried {
		if at == r.to {
			l.count(r)
		}
	}
	l.tried = nil
}

// happened counts a removal that is known to have happened.
func (l *liveBytes) happened(r *removed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(r)
	l.tried = slices.DeleteFunc(l.tried, func(t *removed) bool { return t == r })
}

// count counts a removal once. l.mu is held.
func (l *liveBytes) count(r *removed) {
	if !r.counted {
		r.counted = true
		l.sum.Add(-r.freed)
	}
}

// LiveBytes returns the bytes of all that can still be read: keys and values of the rows of current and old versions,
// of the log and of leases, before any compression. Deleted and replaced versions count until a compaction has removed
// them. The sum is exact for a state of a moment ago, and 0 without FeatureSizes. On a shared engine it includes what
// this Store has written, and what others have written up to sizeAge ago, or longer while the engine does not answer.
// One caller per sizeAge waits for the engine, for at most sizeTimeout; the others get what is known.
func (s *Store) LiveBytes() int64 {
	switch {
	case !s.Features().Has(FeatureSizes):
		return 0
	case s.limits.Dense:
		return s.live.sum.Load()
	}
	others := s.live.others.get(func(ctx context.Context) (int64, error) {
		own := s.live.sum.Load() // before the read: better to count twice for a while than not at all
		n, err := s.readLive(ctx)
		return n - own, err
	})
	return others + s.live.sum.Load()
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

// loadLive reads the counter when a Store opens that will be the only writer.
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

// What a put adds to the live bytes besides its value and two or three times its key, at most: stamps, references,
// numbers.
const (
	putBytes   = 120
	leaseBytes = 32
)

// cost is an upper bound on what a request adds to the live bytes.
func (s *Store) cost(m mutation) int64 {
	switch r := m.(type) {
	case *PutRequest:
		return s.putCost(r)
	case *TxnRequest:
		return s.txnCost(r)
	case *replay:
		return r.cost(s)
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

// txnCost is the cost of the more expensive branch, as in etcd.
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

// hold reserves space for a request until its release.
func (s *Store) hold(r *request, n int64) {
	s.live.reserved.Add(n)
	r.reserved.Store(n)
	r.space = &s.live.reserved
}

// reserved returns an error if a request needs space and there is none. If others write the keyspace too, its group
// checks this instead.
func (s *Store) reserved(r *request) error {
	if !s.limits.Dense || !s.Features().Has(FeatureSizes) || s.hasSpace(s.LiveBytes()) {
		return nil
	}
	r.release()
	s.over(errQuota)
	return errQuota
}

// hasSpace reports whether the live bytes and the reserved bytes are within the quota.
func (s *Store) hasSpace(live int64) bool { return live+s.live.reserved.Load() <= s.o.Quota }

// errQuota is the answer to a request for which there is no space.
var errQuota = fmt.Errorf("%w: the quota", ErrNoSpace)

// boundsSpace reports whether groups enforce the quota, because others write the keyspace too.
func (s *Store) boundsSpace() bool { return s.o.Quota > 0 && !s.limits.Dense }

// scanLive starts a read of the counter of live bytes, without a conflict, for a group of requests that need space. It
// returns nil if no request does.
func (g *group) scanLive(ctx context.Context, reqs []*request) engine.Iterator {
	s := g.s
	if !s.boundsSpace() || !slices.ContainsFunc(reqs, func(r *request) bool { return r.m.grows() }) {
		return nil
	}
	return g.txn.Scan(ctx, engine.Range{
		Begin: s.sizeRow, End: append(s.sizeRow[:len(s.sizeRow):len(s.sizeRow)], 0), Limit: 1, NoConflict: true,
	})
}

// loadLive finishes the read that scanLive has started.
func (g *group) loadLive(it engine.Iterator) error {
	if it == nil {
		return nil
	}
	defer it.Close()
	var row []byte
	if it.Next() {
		row = it.Value()
	}
	if err := it.Err(); err != nil {
		return storeErr(err)
	}
	n, ok := engine.ParseCounter(row)
	if !ok {
		return fmt.Errorf("%w: the counter of live bytes has %d bytes", ErrCorrupt, len(row))
	}
	g.live = n
	return nil
}

// admitSpace returns an error if there is no space for a request, where others write the keyspace too. What this
// Store's requests under way may add counts as added.
func (g *group) admitSpace(m mutation) error {
	if !g.s.boundsSpace() || !m.grows() || !g.features.Has(FeatureSizes) || g.s.hasSpace(g.live) {
		return nil
	}
	return errQuota
}

// release returns the reserved space of a request, once. A request that nobody waits for any more keeps it until its
// group has landed, because the group may still write it.
func (r *request) release() {
	if r.space != nil {
		r.space.Add(-r.reserved.Swap(0))
	}
}

// rangeSize keeps the last answer about a size.
type rangeSize struct {
	asking sync.Mutex
	asked  atomic.Pointer[time.Time] // nil: never
	bytes  atomic.Int64
}

func (r *rangeSize) fresh() bool {
	asked := r.asked.Load()
	return asked != nil && time.Since(*asked) < sizeAge
}

// get returns the last answer, and asks for a new one if that is too old. A caller that comes meanwhile gets the last
// answer, and waits only if there is none.
func (r *rangeSize) get(ask func(context.Context) (int64, error)) int64 {
	if r.fresh() {
		return r.bytes.Load()
	}
	if r.asked.Load() == nil {
		r.asking.Lock()
	} else if !r.asking.TryLock() {
		return r.bytes.Load()
	}
	defer r.asking.Unlock()
	if r.fresh() {
		return r.bytes.Load()
	}
	ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
	defer cancel()
	if n, err := ask(ctx); err == nil {
		r.bytes.Store(n)
	}
	now := time.Now()
	r.asked.Store(&now) // after a failure too, so that not every caller waits for an engine that does not answer
	return r.bytes.Load()
}
