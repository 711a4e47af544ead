package lease

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// instant is a moment on the keeper's own monotonic clock, in nanoseconds; never negative.
type instant = int64

// Values of entry.deadline that are not moments.
const (
	latched instant = -1 // an operation on the lease is under way; its end is awaited through entry.done
	gone    instant = -2 // the entry is no longer in the table
)

// shelved is the deadline of a lease that has expired and cannot be revoked for now: a moment before all others.
const shelved instant = 0

// fullBits and smallBits set the number of shards. Keep-alives of different leases share a cache line of a lock with
// 1 in 256; in a small table, which takes 3 KiB instead of 45, with 1 in 16.
const (
	fullBits  = 8
	smallBits = 4
)

// task says who holds the latch of an entry, if it is the expiry loop and not a request.
type task uint8

const (
	noTask     task = iota
	revokeTask      // the lease has expired, or a revoke of it must be carried through
	grantTask       // a grant must be carried through
)

// entry is one lease. Its latch (deadline == latched) serialises everything that asks the store about the lease;
// renewals only ever compare and swap the deadline, so they fail against a latch and never wait for a lock.
type entry struct {
	id  int64
	ttl int64 // seconds, as granted
	// deadline is when the lease expires, or latched or gone. Only latch, release and expire write a value that is
	// not a moment, under the shard's lock.
	deadline atomic.Int64

	aside  atomic.Bool // it has been shelved once; set under the shard's lock
	over   bool        // it was made to be granted, and is one more than table.max
	ending atomic.Bool // the store has begun to end it: there is no such lease any more, until release nor any other

	// Under the shard's lock.
	done     chan struct{} // closed when the latch is released; made by the first who waits
	task     task
	attempts uint8 // failed attempts of task

	// Under the queue's lock.
	due   instant
	index int // position in the queue, -1 if not queued
}

func newEntry(id, ttl int64) *entry { return &entry{id: id, ttl: ttl, index: -1} }

// shard is a part of the table, on cache lines of its own.
type shard struct {
	mu      sync.RWMutex
	entries map[int64]*entry
	renewed atomic.Uint64
	_       [88]byte
}

// table holds the leases and their deadlines. It has no clock: whoever calls it says what time it is.
type table struct {
	shards []shard // a power of two
	shift  int     // what is left of a hash in front of a shard's number
	queue  queue
	size   atomic.Int64
	max    int64 // leases that may be granted; 0: no bound
}

func newTable(bits int) *table {
	t := &table{shards: make([]shard, 1<<bits), shift: 64 - bits}
	for i := range t.shards {
		t.shards[i].entries = map[int64]*entry{}
	}
	return t
}

// shard returns the part that id is in. Ids are random or sequential; a multiplication by 2^64/φ spreads both.
func (t *table) shard(id int64) *shard {
	return &t.shards[uint64(id)*0x9E3779B97F4A7C15>>t.shift]
}

// after returns the deadline of a lease that is granted or renewed now. A deadline too far for the clock is the
// clock's last moment, in 292 years.
func after(now instant, ttl int64) instant {
	if ttl > math.MaxInt64/int64(time.Second) {
		return never
	}
	d := now + ttl*int64(time.Second)
	if d < now {
		return never
	}
	return d
}

// load fills an empty table with leases that get their full time from now on, and extend besides.
func (t *table) load(leases []*entry, now instant, extend time.Duration) {
	for _, e := range leases {
		if e.ending.Load() {
			e.task = revokeTask
			e.deadline.Store(latched) // before all moments: it is the first in the queue
		} else {
			e.deadline.Store(after(now+int64(extend), e.ttl))
		}
	}
	t.fill(leases)
}

// fill fills an empty table with leases that have their deadlines.
func (t *table) fill(leases []*entry) {
	for _, e := range leases {
		t.shard(e.id).entries[e.id] = e
	}
	t.size.Add(int64(len(leases)))
	t.queue.fill(leases)
}

// renewal is what became of an attempt to renew.
type renewal uint8

const (
	renewed   renewal = iota + 1
	notFound          // there is no such lease
	undecided         // the lease has expired or is being granted or revoked: wait (see wait) and try again
)

// renew gives a lease its full time again, unless it has expired: what has expired stays so, whether or not the
// revoke has begun. It allocates nothing and takes no lock but a shared one.
func (t *table) renew(id int64, now instant) (ttl int64, r renewal) {
	s := t.shard(id)
	s.mu.RLock()
	e := s.entries[id]
	s.mu.RUnlock()
	if e == nil || e.ending.Load() {
		return 0, notFound
	}
	for {
		old := e.deadline.Load()
		if old <= now { // latched and gone are below every moment
			return 0, undecided
		}
		// A renewal with an older idea of the time must not take back a younger one's.
		if e.deadline.CompareAndSwap(old, max(old, after(now, e.ttl))) {
			s.renewed.Add(1)
			return e.ttl, renewed
		}
	}
}

// gone reports whether the lease has left the table.
func (e *entry) gone() bool { return e.deadline.Load() == gone }

// aside reports whether a lease has been shelved: it has expired, and there is no use in waiting for its end.
func (t *table) aside(id int64) bool {
	s := t.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.entries[id]
	return e != nil && e.aside.Load()
}

// wait returns a lease's entry and a channel that is closed when its present state has come to an end, or nil if there
// is nothing to wait for: the lease is not there, or is good. A lease that has expired is given to the expiry loop at
// once, so that no renewal with an older idea of the time can make it good again while someone waits for its end;
// first reports whether the queue has a new first entry thereby.
func (t *table) wait(id int64, now instant) (e *entry, ended <-chan struct{}, first bool) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e = s.entries[id]; e == nil {
		return nil, nil, false
	}
	for {
		deadline := e.deadline.Load()
		switch {
		case deadline > now:
			return nil, nil, false
		case deadline == latched:
			return e, e.ended(), false
		}
		if e.deadline.CompareAndSwap(deadline, latched) {
			e.task = revokeTask
			return e, e.ended(), t.queue.put(e, deadline)
		}
	}
}

// ended returns the channel that release closes. The shard's lock is held.
func (e *entry) ended() <-chan struct{} {
	if e.done == nil {
		e.done = make(chan struct{})
	}
	return e.done
}

// latch takes the lease for one operation: nobody else grants, revokes, renews or expires it until release. prior is
// the deadline that it had, or gone if there was no such lease; then the entry is new, with the given ttl. If someone
// else holds the latch, e is nil and busy is closed when it is worth trying again.
func (t *table) latch(id, ttl int64) (e *entry, prior instant, busy <-chan struct{}) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e = s.entries[id]
	if e == nil {
		e = newEntry(id, ttl)
		e.deadline.Store(latched)
		s.entries[id] = e
		n := t.size.Add(1)
		e.over = t.max > 0 && ttl > 0 && n > t.max
		return e, gone, nil
	}
	if prior = e.deadline.Swap(latched); prior == latched {
		return nil, 0, e.ended()
	}
	t.queue.remove(e)
	return e, prior, nil
}

// release ends the operation that holds e's latch. With a moment, the lease lives until then; with gone it leaves the
// table. It reports whether the queue has a new first entry.
func (t *table) release(e *entry, deadline instant) (first bool) {
	s := t.shard(e.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.task, e.attempts = noTask, 0
	e.deadline.Store(deadline)
	if deadline == gone {
		delete(s.entries, e.id)
		t.size.Add(-1)
	} else {
		first = t.queue.put(e, deadline)
	}
	e.wake()
	return first
}

// replace ends the operation that holds e's latch: e is gone, and a lease with the same id and another ttl is there.
func (t *table) replace(e *entry, ttl int64, deadline instant) (first bool) {
	s := t.shard(e.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh := newEntry(e.id, ttl)
	fresh.deadline.Store(deadline)
	s.entries[e.id] = fresh
	e.deadline.Store(gone)
	e.wake()
	return t.queue.put(fresh, deadline)
}

// wake lets those go who wait for the end of e's state. The shard's lock is held.
func (e *entry) wake() {
	if e.done != nil {
		close(e.done)
		e.done = nil
	}
}

// hand gives the latch of e, which the caller holds, to the expiry loop, which is to do work from due on. It reports
// whether the queue has a new first entry.
func (t *table) hand(e *entry, work task, due instant) (first bool) {
	s := t.shard(e.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.task = work
	if e.attempts < math.MaxUint8 {
		e.attempts++
	}
	return t.queue.put(e, due)
}

// shelve ends the operation that holds e's latch, a revoke that cannot be carried out for now: the lease has expired,
// and is tried again when due. again says that this is not the first time; first, whether the queue has a new first
// entry.
func (t *table) shelve(e *entry, due instant) (first, again bool) {
	s := t.shard(e.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	again = e.aside.Swap(true)
	e.task, e.attempts = noTask, 0
	e.deadline.Store(shelved)
	first = t.queue.put(e, due)
	e.wake()
	return first, again
}

// expire returns an entry that something has to be done about at now, with its latch held for its task, or nil and the
// time until which there is nothing to do.
func (t *table) expire(now instant) (*entry, instant) {
	for {
		e, next := t.queue.pop(now)
		if e == nil {
			return nil, next
		}
		if t.due(e, now) {
			return e, 0
		}
	}
}

// due decides about an entry that has been popped: it takes the latch and reports true if the entry has a task or has
// expired, and otherwise puts it back unless an operation holds it, whose release does that. Between the pop and here,
// someone may have queued the entry again; if it is taken, it leaves the queue.
func (t *table) due(e *entry, now instant) bool {
	s := t.shard(e.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	for e.task == noTask {
		deadline := e.deadline.Load()
		switch {
		case deadline < 0:
			return false
		case deadline > now:
			t.queue.put(e, deadline)
			return false
		}
		if e.deadline.CompareAndSwap(deadline, latched) {
			e.task = revokeTask
		}
	}
	t.queue.remove(e)
	return true
}

// find returns the entry of a lease, or nil if there is none. If an operation on it is under way, busy is not nil, and
// closed when it is worth looking again.
func (t *table) find(id int64) (e *entry, busy <-chan struct{}) {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e = s.entries[id]
	if e == nil || e.ending.Load() {
		return nil, nil
	}
	if e.deadline.Load() == latched {
		return nil, e.ended()
	}
	return e, nil
}

// ending reports whether the store is ending a lease in steps.
func (t *table) ending(id int64) bool {
	s := t.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.entries[id]
	return e != nil && e.ending.Load()
}

// decide says that the store has begun to end e, whose latch the caller holds: who waits for the outcome learns it.
func (t *table) decide(e *entry) {
	s := t.shard(e.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.ending.Store(true)
	e.wake()
}

// listed is a lease as list shows it.
type listed struct {
	id       int64
	deadline instant
}

// list returns all leases whose state is known, in the order in which they expire, and the ids of those that an
// operation is under way for.
func (t *table) list() (known []listed, busy []int64) {
	known = make([]listed, 0, t.size.Load())
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for id, e := range s.entries {
			if e.ending.Load() {
				continue
			}
			if d := e.deadline.Load(); d >= 0 {
				known = append(known, listed{id, d})
			} else {
				busy = append(busy, id)
			}
		}
		s.mu.RUnlock()
	}
	sortListed(known)
	return known, busy
}

func sortListed(l []listed) {
	slices.SortFunc(l, func(a, b listed) int {
		return cmp.Or(cmp.Compare(a.deadline, b.deadline), cmp.Compare(a.id, b.id))
	})
}

// renewals returns how many renewals there were.
func (t *table) renewals() uint64 {
	var n uint64
	for i := range t.shards {
		n += t.shards[i].renewed.Load()
	}
	return n
}
