package compose

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/lease/shards"
	"github.com/headwaterdb/headwater/libs/relay"
)

// Times and limits of the leases of many keyspaces.
const (
	// ownerPatience bounds how long a request waits for its keyspace's shard to have an owner.
	ownerPatience = 5 * time.Second
	// ownerPause is the time after which it looks again without having been told of a change.
	ownerPause = 100 * time.Millisecond
	// parkMin is the least time to the next expiry for which a keyspace that nobody calls is closed.
	parkMin = 5 * time.Second
	// leaseRetry is the pause before a keyspace that could not be opened is tried again.
	leaseRetry = time.Second
	// settleEvery and settleMax are how often and for how long who has opened a keyspace for its expiries looks whether
	// they are done.
	settleEvery = 20 * time.Millisecond
	settleMax   = 2 * time.Second
	// wakesMax bounds the keyspaces of a shard that are being opened for their expiries at a time.
	wakesMax = openingMax
)

// leaseHost is a leasekeeper pod's share of the leases of many keyspaces. A keyspace's leases are all of one shard, and
// the pod that has the shard keeps them: while the keyspace is open, by a lease.Keeper; while it is not, as one entry in
// the heap of the shard, which has it opened when the first of them expires. Other pods pass calls on.
type leaseHost struct {
	s     *keyspaces
	meter *lease.Meter

	mu    sync.Mutex
	terms [keyspace.Shards]*leaseTerm // nil: another pod has the shard
	peers map[string]*leasePeer       // by address
}

func newLeaseHost(s *keyspaces) *leaseHost {
	return &leaseHost{s: s, meter: lease.NewMeter(), peers: make(map[string]*leasePeer)}
}

// leasePeer is the Lease service of another pod.
type leasePeer struct {
	pool     *relay.Pool
	services *serviceSet
}

// close closes the connections to other pods.
func (h *leaseHost) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, p := range h.peers {
		errs = append(errs, p.pool.Close())
	}
	clear(h.peers)
	return errors.Join(errs...)
}

// pass has a call about leases of one of many keyspaces passed on to the pod that keeps them, or returns nil if that is
// this one. It waits for there to be one. Errors: errMoved, the context's.
func (h *leaseHost) pass(ctx context.Context, info keyspace.Info) (*passed, error) {
	h.s.work(ctx)
	shard := h.s.joint.d.Shard(info.ID)
	patience := time.NewTimer(ownerPatience)
	defer patience.Stop()
	for {
		owner := h.s.joint.places.Owner(shard)
		switch forwarded := lease.Forwarded(ctx); {
		case h.term(shard) != nil:
			return nil, nil
		case forwarded: // once is enough: who has sent it will know better
			return nil, errMoved
		case owner.Address != "":
			return h.passTo(ctx, owner, info.Name)
		}
		pause := time.NewTimer(ownerPause)
		select {
		case <-owner.Epoch.Done():
		case <-pause.C:
		case <-patience.C:
			return nil, errMoved
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		pause.Stop()
	}
}

// passTo passes a call on to the owner of a shard. It ends when the shard has another: one that does not answer is not
// waited for longer.
func (h *leaseHost) passTo(ctx context.Context, owner shards.Owner, name string) (*passed, error) {
	p, err := h.peer(owner.Address)
	if err != nil {
		h.s.d.Log.Warn("a lease keeper cannot be dialled", "addr", owner.Address, "error", err)
		return nil, errMoved
	}
	ctx, cancel := context.WithCancelCause(lease.MarkForwarded(relay.Anew(withName(ctx, name))))
	stop := context.AfterFunc(owner.Epoch, func() { cancel(errMoved) })
	return &passed{p.services, ctx, func() { stop(); cancel(nil) }}, nil
}

// peer is the Lease service at an address.
func (h *leaseHost) peer(address string) (*leasePeer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.peers[address]; p != nil {
		return p, nil
	}
	d := h.s.d
	o, err := d.leaseKeeperOptions(address)
	if err != nil {
		return nil, err
	}
	o.Told = d.told
	pool, err := relay.NewPool(o)
	if err != nil {
		return nil, err
	}
	p := &leasePeer{pool, newServiceSet(d.GRPC, d.background)}
	pool.Register(p.services, &pb.Lease_ServiceDesc)
	h.peers[address] = p
	return p, nil
}

// leaseTerm is the time for which this pod has a shard.
type leaseTerm struct {
	term *election.Term
	wake chan struct{} // capacity 1: the queue has a new first entry

	mu     sync.Mutex
	ended  bool
	parked map[uint64]*parkedLeases
	queue  parkedHeap
}

// parkedLeases are the leases of a keyspace that is not open.
type parkedLeases struct {
	id     uint64
	leases *lease.Parked // nil: they have to be claimed and read
	due    time.Time     // when the keyspace is to be opened
	index  int           // in the queue
}

// term is that of a shard, nil if another pod has it.
func (h *leaseHost) term(shard int) *leaseTerm {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.terms[shard]
}

// work keeps the leases of a shard until ctx ends; it is a shards.Work.
func (h *leaseHost) work(ctx context.Context, shard int, t *election.Term) error {
	l := &leaseTerm{term: t, wake: make(chan struct{}, 1), parked: make(map[uint64]*parkedLeases)}
	h.set(shard, l)
	defer h.endShard(shard, l)
	d := h.s.joint.d
	for n := 0; ; n++ {
		// What is granted from now on is granted here.
		ids, _, err := d.IDs(ctx, h.s.d.Engine, d.Leases(shard))
		if err == nil {
			for _, id := range ids {
				l.park(&parkedLeases{id: id, due: time.Now()})
			}
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		h.s.d.Log.Warn("the keyspaces with leases cannot be read; will retry", "shard", shard, "error", err)
		_ = retry.Sleep(ctx, leaseRetry)
	}
	h.expire(ctx, l)
	return nil
}

func (h *leaseHost) set(shard int, l *leaseTerm) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.terms[shard] = l
}

// endShard gives up a shard: the keyspaces of it that are open are closed.
func (h *leaseHost) endShard(shard int, l *leaseTerm) {
	h.set(shard, nil)
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, o := range s.open {
		if s.joint.d.Shard(id) == shard {
			s.endLocked(o, errMoved)
		}
	}
}

// expire opens keyspaces when their leases expire, until ctx ends.
func (h *leaseHost) expire(ctx context.Context, l *leaseTerm) {
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
				defer func() { <-slots }()
				h.open(ctx, l, p.id)
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

// open opens a keyspace for its leases, and closes it again when those that have expired are gone, unless somebody uses
// it by then.
func (h *leaseHost) open(ctx context.Context, l *leaseTerm, id uint64) {
	info, there := h.s.table.ByID(id)
	if !there && h.s.deleted(ctx, id) {
		l.take(id) // its row goes with it
		return
	}
	var v visit
	err := errNoKeyspace // the copy of the table does not have it yet
	for again := there; again; {
		if v, again, err = h.s.visit(ctx, info, callOwn); err != nil {
			break
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			h.s.d.Log.Warn("a keyspace cannot be opened for its leases; will retry", "keyspace", info.Name, "id", id, "error", err)
			l.retry(id, time.Now().Add(leaseRetry))
		}
		return
	}
	for begin := time.Now(); v.k.busy() && time.Since(begin) < settleMax && ctx.Err() == nil; {
		_ = retry.Sleep(ctx, settleEvery)
	}
	busy := v.k.busy()
	v.leave()
	if !busy {
		h.s.endBrief(v.o)
	}
}

// park puts the leases of a keyspace that is not open into the heap.
func (l *leaseTerm) park(p *parkedLeases) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || l.parked[p.id] != nil {
		return
	}
	l.parked[p.id] = p
	heap.Push(&l.queue, p)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take takes the leases of a keyspace that is opened, nil if they have to be claimed and read.
func (l *leaseTerm) take(id uint64) *lease.Parked {
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

// retry has a keyspace opened later that could not be, if it has not been meanwhile.
func (l *leaseTerm) retry(id uint64, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.parked[id]
	switch {
	case p == nil: // what was known of its leases has gone with the attempt
		p = &parkedLeases{id: id, index: -1}
		l.parked[id] = p
	case p.index >= 0:
		return
	}
	p.due = due
	heap.Push(&l.queue, p)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// due takes the first of the queue if it is due; its leases stay until they are taken. next is the time until there
// may be another.
func (l *leaseTerm) due(now time.Time) (p *parkedLeases, next time.Duration) {
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

// parkedHeap is the keyspaces by the time at which they are to be opened. It implements heap.Interface.
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

// hostedLeasesPart keeps the leases of one of many keyspaces while it is open here.
func hostedLeasesPart(k *Keyspace) part {
	var keeper *lease.Keeper
	return part{
		open: func(ctx context.Context) (err error) {
			h, id := k.d.all.joint.leases, k.Place.ID
			l := h.term(h.s.joint.d.Shard(id))
			if l == nil {
				return errMoved
			}
			keeper, err = lease.New(k.Store, lease.Options{
				Logger: k.d.Log, Meter: h.meter, Holds: l.term.Holds, Parked: l.take(id),
			})
			if err != nil {
				return err
			}
			k.OnClose(func() error { k.parkLeases(l, keeper); return nil })
			return k.runLeases(ctx, keeper)
		},
		register: func(r grpc.ServiceRegistrar) { etcdapi.RegisterLease(r, k.guard.Leases(keeper), k.Header, k.Store) },
		busy:     func() bool { return keeper.Next() < parkMin },
		leases:   func() int { return keeper.Stats().Active },
	}
}

// parkLeases parks what a keeper, which has ended, knew. Where it does not know all, or calls that it may have answered
// have not ended, the leases are claimed and read again.
func (k *Keyspace) parkLeases(l *leaseTerm, keeper *lease.Keeper) {
	p := &parkedLeases{id: k.Place.ID, due: time.Now().Add(leaseRetry)}
	if !k.inUse() {
		p.leases = keeper.Park()
	}
	switch {
	case p.leases == nil:
	case p.leases.Len() == 0:
		ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
		defer cancel()
		// A grant writes the row and a lease in one transaction: one that comes meanwhile conflicts.
		row := k.d.all.joint.d.Beside(p.id).Leases
		if err := keyspace.Forget(ctx, k.d.Engine, row, k.Store.Leaseless); err != nil {
			k.d.Log.Warn("a keyspace without leases stays noted as one that has some", "id", p.id, "error", err)
		}
		return
	default:
		p.due = p.leases.Due()
	}
	l.park(p)
}

// inUse tells whether calls to the keyspace, which is being closed, have not ended.
func (k *Keyspace) inUse() bool {
	s := k.d.all
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.open[k.Place.ID]
	return o == nil || o.calls > 0
}
