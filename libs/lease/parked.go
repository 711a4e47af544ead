package lease

import (
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Parked is what a keeper knew about its leases when it ended. The next keeper continues with it (Options.Parked),
// without claiming and reading the leases, and without extending them.
type Parked struct {
	fence  mvcc.Fence
	start  time.Time // of the clock of the deadlines
	leases []parkedLease
}

type parkedLease struct {
	id, ttl  int64
	deadline instant
}

// Len is the number of leases.
func (p *Parked) Len() int { return len(p.leases) }

// Due returns when the first lease expires. Until then no keeper is needed.
func (p *Parked) Due() time.Time {
	first := never
	for _, l := range p.leases {
		first = min(first, l.deadline)
	}
	return p.start.Add(time.Duration(first - 1)) // clocks start at 1
}

// Park returns what the keeper knew when Run returned. It returns nil if the state of a lease was unknown, or no lease
// was known: the next keeper must then claim and read the leases. No request may have been under way since Run was told
// to end.
func (k *Keeper) Park() *Parked {
	select {
	case <-k.stopped:
	default:
		return nil
	}
	select {
	case <-k.ready:
	default:
		return nil
	}
	if errors.Is(k.runErr, ErrNotOwner) {
		return nil
	}
	p := &Parked{fence: k.fence, start: k.start}
	for i := range k.table.shards {
		s := &k.table.shards[i]
		s.mu.RLock()
		for id, e := range s.entries {
			d := e.deadline.Load()
			if d <= shelved || e.ending.Load() {
				s.mu.RUnlock()
				return nil
			}
			p.leases = append(p.leases, parkedLease{id, e.ttl, d})
		}
		s.mu.RUnlock()
	}
	return p
}

// Next returns the time until the first lease expires. It is negative if a lease needs work now or is being worked on,
// and very long if there is no lease.
func (k *Keeper) Next() time.Duration {
	if !k.serving.Load() {
		return -1
	}
	first := never
	for i := range k.table.shards {
		s := &k.table.shards[i]
		s.mu.RLock()
		for _, e := range s.entries {
			first = min(first, e.deadline.Load())
		}
		s.mu.RUnlock()
	}
	return time.Duration(first - k.now())
}

// resume fills the table with leases that an earlier keeper has parked.
func (k *Keeper) resume(p *Parked) {
	earlier := int64(k.start.Sub(p.start))
	entries := make([]*entry, 0, len(p.leases))
	for _, l := range p.leases {
		e := newEntry(l.id, l.ttl)
		d := l.deadline
		if d != never {
			d = max(d-earlier, shelved+1)
		}
		e.deadline.Store(d)
		entries = append(entries, e)
	}
	k.table.fill(entries)
}
