package compose

import (
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
	// ownerPause is the time after which the request looks again although no change was reported.
	ownerPause = 100 * time.Millisecond
)

// leaseHost is a leasekeeper pod's share of the leases of many keyspaces. All leases of a keyspace belong to one shard,
// and the pod that has the shard keeps them. While the keyspace is open, a lease.Keeper does. While it is not, the
// keyspace is one entry in the shard's heap, which opens it when its first lease expires. Other pods pass calls on.
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

// pass passes a call about leases of one of many keyspaces on to the pod that keeps them. It returns nil if that is
// this pod. If there is no such pod it waits for one. Errors: errMoved, the context's.
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
		case forwarded: // a call is forwarded only once; its sender will look again
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

// passTo passes a call on to the owner of a shard. The call ends when the shard gets another owner, so that nobody
// waits longer for one that does not answer.
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

// peer returns the Lease service at an address. The caller that makes a new one closes those that are no longer needed.
func (h *leaseHost) peer(address string) (*leasePeer, error) {
	h.mu.Lock()
	if p := h.peers[address]; p != nil {
		h.mu.Unlock()
		return p, nil
	}
	p, err := h.dial(address)
	if err != nil {
		h.mu.Unlock()
		return nil, err
	}
	idle := h.takeIdle()
	h.peers[address] = p
	h.mu.Unlock()
	for _, p := range idle {
		if err := p.pool.Close(); err != nil {
			h.s.d.Log.Warn("connections to a lease keeper could not be closed", "error", err)
		}
	}
	return p, nil
}

func (h *leaseHost) dial(address string) (*leasePeer, error) {
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
	return p, nil
}

// takeIdle removes the pods that have no shard any more. Calls to them have ended with their terms. h.mu is held.
func (h *leaseHost) takeIdle() (idle []*leasePeer) {
	owners := make(map[string]bool)
	for shard := range keyspace.Shards {
		owners[h.s.joint.places.Owner(shard).Address] = true
	}
	for address, p := range h.peers {
		if !owners[address] {
			idle = append(idle, p)
			delete(h.peers, address)
		}
	}
	return idle
}

// leaseTerm is the time in which this pod has a shard.
type leaseTerm struct {
	term *election.Term
	*parking
}

// term returns the term of a shard; nil: another pod has the shard.
func (h *leaseHost) term(shard int) *leaseTerm {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.terms[shard]
}

// work keeps the leases of a shard until ctx ends. It is a shards.Work.
func (h *leaseHost) work(ctx context.Context, shard int, t *election.Term) error {
	l := &leaseTerm{t, newParking()}
	h.set(shard, l)
	defer h.endShard(shard, l)
	// What is granted from now on is granted here.
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { h.look(ctx, shard, l) })
	h.s.openParked(ctx, l.parking)
	return nil
}

// look has the keyspaces of a shard opened that have leases, until ctx ends: those of now, and those whose leases come
// with a copy later. Only one that is served has somebody who keeps its leases: what is being opened may yet fail, and
// what is being closed, after an earlier term, leaves nothing to this one.
func (h *leaseHost) look(ctx context.Context, shard int, l *leaseTerm) {
	d, eng := h.s.joint.d, h.s.d.Engine
	for ctx.Err() == nil {
		bell, err := h.s.bell(ctx, shard)
		var ids []uint64
		if err == nil {
			ids, _, err = d.IDs(ctx, eng, d.Leases(shard))
		}
		if err == nil {
			for _, id := range ids {
				if !h.s.serves(id) {
					l.note(id)
				}
			}
			err = eng.WaitChange(ctx, d.Work(shard), bell)
		}
		if err != nil && ctx.Err() == nil {
			h.s.d.Log.Warn("the keyspaces with leases cannot be read; will retry", "shard", shard, "error", err)
			_ = retry.Sleep(ctx, leaseRetry)
		}
	}
}

func (h *leaseHost) set(shard int, l *leaseTerm) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.terms[shard] = l
}

// endShard gives up a shard. It closes the shard's open keyspaces.
func (h *leaseHost) endShard(shard int, l *leaseTerm) {
	h.set(shard, nil)
	l.end()
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, o := range s.open {
		if s.joint.d.Shard(id) == shard {
			s.endLocked(o, errMoved)
		}
	}
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
				Logger: k.d.Log, Small: true, Meter: h.meter, Holds: l.term.Holds, Parked: l.take(id),
				Max: k.leasesMax(), Now: k.d.now,
			})
			if err != nil {
				return err
			}
			k.OnClose(func() error { k.parkLeases(l.parking, keeper, k.leaseless); return nil })
			return k.runLeases(ctx, keeper)
		},
		register: func(r grpc.ServiceRegistrar) {
			etcdapi.RegisterLease(r, k.guard.Leases(followingLeases{keeper, k.Store}), k.Header, k.Store)
		},
		busy:   func() bool { return keeper.Next() < parkMin },
		leases: func() int { return keeper.Stats().Active },
	}
}

// leaseless removes the row that says that the keyspace has leases.
func (k *Keyspace) leaseless() {
	ctx, cancel := context.WithTimeout(context.Background(), statsTimeout)
	defer cancel()
	// A grant writes the row and the lease in one transaction, so a grant in the meantime conflicts.
	row := k.d.all.joint.d.Beside(k.Place.ID).Leases
	if err := keyspace.Forget(ctx, k.d.Engine, row, k.Store.Leaseless); err != nil {
		k.d.Log.Warn("the row that says that a keyspace has leases could not be removed",
			"id", k.Place.ID, "error", err)
	}
}
