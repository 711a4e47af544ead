package shards

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

var (
	// errElsewhere: the pod that was asked does not keep the lease, or could not be asked, and has done nothing that
	// must not be done twice.
	errElsewhere = errors.New("shards: not kept there")
	// errUnsure: the pod that was asked may have done it.
	errUnsure = fmt.Errorf("shards: the lease's keeper did not answer: %w", mvcc.ErrUnavailable)
)

// route brings a request about a lease to its keeper: to local if that is here, else to remote. Those that find that
// it has moved are repeated elsewhere. Errors: lease.ErrNotOwner if nobody keeps the lease for too long, or not here
// and the call was forwarded; lease.ErrStopped; ctx's; those of local and remote.
func (s *Shards) route(
	ctx context.Context, id int64, local func(*lease.Keeper) error, remote func(context.Context, *peer) error,
) error {
	h := &s.shards[Of(id)]
	var patience *time.Timer // made when the request has to wait
	for {
		k, owner, epoch := h.state()
		err := errElsewhere
		switch {
		case k != nil:
			err = local(k)
		case owner != "" && owner != s.o.Self && !lease.Forwarded(ctx):
			err = s.forward(ctx, epoch, owner, remote)
		}
		if !errors.Is(err, errElsewhere) && !errors.Is(err, lease.ErrNotOwner) {
			return err
		}
		if lease.Forwarded(ctx) {
			s.misrouted.Add(1)
			return lease.ErrNotOwner
		}
		if patience == nil {
			patience = time.NewTimer(ownerWaitFactor * s.o.TTL)
			defer patience.Stop()
		}
		if err := s.awaitOwner(ctx, epoch, patience); err != nil {
			return err
		}
	}
}

// awaitOwner returns when it is worth looking for the owner again.
func (s *Shards) awaitOwner(ctx, epoch context.Context, patience *time.Timer) error {
	pause := time.NewTimer(s.o.TTL / retryDivisor)
	defer pause.Stop()
	select {
	case <-epoch.Done():
		return nil
	case <-pause.C:
		return nil
	case <-patience.C:
		return lease.ErrNotOwner
	case <-s.stopped:
		return lease.ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forward runs remote with the pod at addr until the shard's epoch ends: a pod that has stopped answering is waited
// for only until another takes over.
func (s *Shards) forward(ctx, epoch context.Context, addr string, remote func(context.Context, *peer) error) error {
	p, err := s.peer(addr)
	if err != nil {
		s.o.Logger.Warn("lease shards: a pod cannot be dialled", "addr", addr, "error", err)
		return errElsewhere
	}
	s.forwarded.Add(1)
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(epoch, cancel)()
	err = remote(lease.Forwarding(calling), p)
	if ctx.Err() != nil && err != nil {
		return ctx.Err()
	}
	return err
}

// answered turns the error of a call to another pod into one of this process. moved is what is returned if it is not
// known whether the call did anything: errElsewhere for those that may be repeated, else errUnsure.
func answered(err, moved error) error {
	s, ok := status.FromError(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return moved
	case !ok:
		return err
	case s.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaderChanged):
		return errElsewhere
	case s.Code() == codes.Unavailable, s.Code() == codes.Canceled:
		return moved
	case s.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound):
		return mvcc.ErrLeaseNotFound
	case s.Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseExist):
		return mvcc.ErrLeaseExists
	}
	return err
}

// Grant is lease.Keeper.Grant. With id 0 the lease is granted here if this pod has a shard.
func (s *Shards) Grant(ctx context.Context, id, ttl int64) (lease.Granted, error) {
	if ttl > lease.MaxTTL {
		return lease.Granted{}, lease.ErrTTLTooLarge
	}
	if id != 0 {
		return s.grant(ctx, id, ttl)
	}
	var g lease.Granted
	err := mvcc.ErrLeaseExists
	unsure := 0
	for range idAttemptsMax {
		g, err = s.grant(ctx, newID(s.Owned()), ttl)
		if errors.Is(err, errUnsure) {
			unsure++
		}
		if !errors.Is(err, mvcc.ErrLeaseExists) && !errors.Is(err, errUnsure) || unsure == grantsUnsureMax {
			break
		}
	}
	return g, err
}

// newID returns a random positive id, of one of the given shards if there are any.
func newID(of []int) int64 {
	for {
		id := 1 + rand.Int64N(1<<63-1)
		if len(of) == 0 || slices.Contains(of, Of(id)) {
			return id
		}
	}
}

// grant grants one lease. A pod that did not answer may have granted it, so it is asked again, or whoever owns the
// shard by then, until somebody answers: at most one of these grants makes the lease. That it exists by then tells
// nothing of who has made it. Errors: errUnsure if that is so; as route.
func (s *Shards) grant(ctx context.Context, id, ttl int64) (g lease.Granted, err error) {
	unsure := false
	err = s.route(ctx, id, func(k *lease.Keeper) (err error) {
		g, err = k.Grant(ctx, id, ttl)
		return err
	}, func(ctx context.Context, p *peer) error {
		r, err := p.client.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		g = lease.Granted{ID: r.GetID(), TTL: r.GetTTL(), Rev: r.GetHeader().GetRevision()}
		if storeAway(err) {
			return errUnsure // another pod would find the store no sooner
		}
		if err = answered(err, errUnsure); errors.Is(err, errUnsure) {
			unsure = true
			return errElsewhere
		}
		return err
	})
	if unsure && errors.Is(err, mvcc.ErrLeaseExists) {
		err = errUnsure
	}
	return g, err
}

// storeAway says that the pod that was asked has answered, and could not reach the store.
func storeAway(err error) bool {
	return err != nil && status.Convert(err).Message() == rpctypes.ErrorDesc(rpctypes.ErrGRPCTimeout)
}

// Revoke is lease.Keeper.Revoke.
func (s *Shards) Revoke(ctx context.Context, id int64) (rev int64, err error) {
	err = s.route(ctx, id, func(k *lease.Keeper) (err error) {
		rev, err = k.Revoke(ctx, id)
		return err
	}, func(ctx context.Context, p *peer) error {
		r, err := p.client.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: id})
		rev = r.GetHeader().GetRevision()
		return answered(err, errUnsure)
	})
	return rev, err
}

// TryRenew is lease.Keeper.TryRenew: ok is false also if another pod keeps the lease.
func (s *Shards) TryRenew(id int64) (ttl int64, ok bool) {
	k := s.shards[Of(id)].keeper.Load()
	if k == nil {
		return 0, false
	}
	return k.TryRenew(id)
}

// Renew is lease.Keeper.Renew.
func (s *Shards) Renew(ctx context.Context, id int64) (ttl int64, err error) {
	err = s.route(ctx, id, func(k *lease.Keeper) (err error) {
		ttl, err = k.Renew(ctx, id)
		return err
	}, func(ctx context.Context, p *peer) (err error) {
		ttl, err = p.renew(ctx, id)
		return err
	})
	return ttl, err
}

// TimeToLive is lease.Keeper.TimeToLive.
func (s *Shards) TimeToLive(ctx context.Context, id int64, keys bool) (info lease.Info, found bool, err error) {
	err = s.route(ctx, id, func(k *lease.Keeper) (err error) {
		info, found, err = k.TimeToLive(ctx, id, keys)
		return err
	}, func(ctx context.Context, p *peer) error {
		r, err := p.client.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: keys})
		info = lease.Info{ID: id, Rev: r.GetHeader().GetRevision()}
		// etcd answers for a lease that is not there with a TTL of -1 and nothing granted (v3rpc/lease.go).
		if found = r.GetGrantedTTL() > 0; found {
			info.TTL, info.Remaining, info.Keys = r.GetGrantedTTL(), r.GetTTL(), r.GetKeys()
		}
		return answered(err, errElsewhere)
	})
	return info, found, err
}

// Leases returns the ids of all leases in order, without those that are ending. It reads their rows and asks no other
// pod.
func (s *Shards) Leases(ctx context.Context) ([]int64, error) {
	var ids []int64
	err := s.store.Leases(ctx, func(id, ttl int64) error {
		if ttl != mvcc.LeaseEnding {
			ids = append(ids, id)
		}
		return nil
	})
	slices.Sort(ids)
	return ids, err
}
