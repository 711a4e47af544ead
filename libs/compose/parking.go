package compose

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/lease"
)

// Times and limits of the leases of keyspaces that are not open.
const (
	// parkMin is the shortest time to the next expiry for which a keyspace without calls is closed.
	parkMin = 5 * time.Second
	// leaseRetry is the pause before a keyspace is opened again whose leases were not known when it was closed.
	// leaseRetry and leaseRetryMax bound the pauses for a keyspace that cannot be opened.
	leaseRetry    = time.Second
	leaseRetryMax = time.Minute
	// settleEvery is how often a keyspace that was opened for its expiries is checked whether they are done, and
	// settleMax for how long.
	settleEvery = 20 * time.Millisecond
	settleMax   = 2 * time.Second
	// wakesMax bounds the keyspaces of a heap that are being opened for their expiries at the same time.
	wakesMax = openingMax
)

// parkedRetry has the pauses for a keyspace that cannot be opened for its leases.
var parkedRetry = retry.Policy{Min: leaseRetry, Max: leaseRetryMax}

// parking is the keyspaces that have leases and are not open, in a heap by the time at which they must be opened. A
// standalone server has one heap, and a leasekeeper pod one for each of its shards. All methods may be called from any
// goroutine.
type parking struct {
	wake chan struct{} // capacity 1: the queue has a new first entry

	mu     sync.Mutex
	ended  bool
	parked map[uint64]*parkedLeases
	queue  parkedHeap
}

func newParking() *parking {
	return &parking{wake: make(chan struct{}, 1), parked: make(map[uint64]*parkedLeases)}
}

// parkedLeases are the leases of a keyspace that is not open.
type parkedLeases struct {
	id       uint64
	leases   *lease.Parked // nil: they have to be claimed and read
	due      time.Time     // when the keyspace is to be opened
	index    int           // in the queue; negative: not in it, because the keyspace is being opened
	attempts int           // failed attempts to open it
}

// end removes everything that is parked.
func (l *parking) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// park puts the leases of a keyspace that is being closed into the heap, and replaces what was there.
func (l *parking) park(p *parkedLeases) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if old := l.parked[p.id]; old != nil && old.index >= 0 {
		heap.Remove(&l.queue, old.index)
	}
	l.parked[p.id] = p
	l.push(p)
}

// note makes a keyspace be opened at once. Nothing is known of it except that it has something to do.
func (l *parking) note(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.parked[id] != nil {
		return
	}
	p := &parkedLeases{id: id, due: time.Now()}
	l.parked[id] = p
	l.push(p)
}

// push puts p into the queue. The caller holds mu.
func (l *parking) push(p *parkedLeases) {
	heap.Push(&l.queue, p)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take takes the leases of a keyspace that is being opened; nil: they have to be claimed and read.
func (l *parking) take(id uint64) *lease.Parked {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parked[id]
	if p == nil {
		return nil
	}
	delete(l.parked, id)
	if p.index >= 0 {
		heap.Remove(&l.queue, p.index)
	}
	return p.leases
}

// opened removes p, whose keyspace is open. Opening it has done that already, unless p was noted while somebody else
// opened the keyspace.
func (l *parking) opened(p *parkedLeases) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked[p.id] == p {
		delete(l.parked, p.id)
	}
}

// retry makes the keyspace of p be opened later, because it could not be opened now, unless it has been opened since.
func (l *parking) retry(p *parkedLeases) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.parked[p.id]
	switch {
	case l.ended:
		return
	case now == nil: // the attempt has used up what was known of its leases
		now = &parkedLeases{id: p.id, index: -1}
		l.parked[p.id] = now
	case now.index >= 0:
		heap.Remove(&l.queue, now.index)
	}
	now.due = time.Now().Add(parkedRetry.Pause(p.attempts))
	now.attempts = p.attempts + 1
	l.push(now)
}

// due takes the first keyspace of the queue if it is due. Its leases stay until take. next is the time until another
// may be due.
func (l *parking) due(now time.Time) (p *parkedLeases, next time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, time.Hour
	}
	if first := l.queue[0]; first.due.After(now) {
		return nil, min(first.due.Sub(now), time.Hour)
	}
	return heap.Pop(&l.queue).(*parkedLeases), 0
}

// parkedHeap orders keyspaces by the time at which they must be opened. It implements heap.Interface.
type parkedHeap []*parkedLeases

func (q parkedHeap) Len() int           { return len(q) }
func (q parkedHeap) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q parkedHeap) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *parkedHeap) Push(x any) {
	p := x.(*parkedLeases)
	p.index = len(*q)
	*q = append(*q, p)
}

func (q *parkedHeap) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	p.index = -1
	(*q)[last] = nil
	*q = (*q)[:last]
	return p
}

// openParked opens the keyspaces of l when their leases expire, until ctx ends.
func (s *keyspaces) openParked(ctx context.Context, l *parking) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, wakesMax)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		p, next := l.due(time.Now())
		if p != nil {
			slots <- struct{}{}
			wg.Go(func() {
				v, open := s.openDue(ctx, l, p)
				<-slots
				if open {
					s.settle(ctx, v)
				}
			})
			continue
		}
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
		}
	}
}

// openDue opens a keyspace for its leases. The caller ends the visit.
func (s *keyspaces) openDue(ctx context.Context, l *parking, p *parkedLeases) (v visit, open bool) {
	info, there := s.table.ByID(p.id)
	if !there && s.deleted(ctx, p.id) {
		l.take(p.id)
		return visit{}, false
	}
	err := errNoKeyspace // the copy of the table does not have it yet
	for again := there; again; {
		if v, again, err = s.visit(ctx, info, callOwn); err != nil {
			break
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			s.d.Log.Warn("a keyspace cannot be opened for its leases; will retry",
				"keyspace", info.Name, "id", p.id, "error", err)
			l.retry(p)
		}
		return visit{}, false
	}
	l.opened(p)
	return v, true
}

// settle closes a keyspace that was opened for its leases once the expired ones are gone, unless somebody uses it by
// then. If that takes longer, the next review closes it.
func (s *keyspaces) settle(ctx context.Context, v visit) {
	busy := v.k.busy()
	for begin := time.Now(); busy && time.Since(begin) < settleMax && ctx.Err() == nil; busy = v.k.busy() {
		_ = retry.Sleep(ctx, settleEvery)
	}
	v.leave()
	if !busy {
		s.endBrief(v.o)
	}
}

// parkLeases parks what a keeper that has ended knew. If it does not know everything, or if calls that it may have
// answered have not ended, the leases will be claimed and read again. leaseless, if set, is called if there are no
// leases.
func (k *Keyspace) parkLeases(l *parking, keeper *lease.Keeper, leaseless func()) {
	p := &parkedLeases{id: k.Place.ID, due: time.Now().Add(leaseRetry)}
	if !k.inUse() {
		p.leases = keeper.Park()
	}
	switch {
	case k.Store.Following(): // they are another's, unless that has just ended
		p.due = time.Now().Add(leaseRetryMax)
	case p.leases == nil:
	case p.leases.Len() == 0:
		if leaseless != nil {
			leaseless()
		}
		return
	default:
		p.due = p.leases.Due()
	}
	l.park(p)
}

// inUse says whether calls to the keyspace, which is being closed, have not ended.
func (k *Keyspace) inUse() bool {
	s := k.d.all
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[k.Place.ID]
	return o == nil || o.calls > 0
}
