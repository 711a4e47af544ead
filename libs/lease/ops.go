package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Granted is a lease that was granted.
type Granted struct {
	ID  int64
	TTL int64 // seconds, what was asked for or the least that is granted
	Rev int64 // the keyspace's revision after the grant
}

// Grant makes a lease that lives for at least ttl seconds from its answer on. With id 0 the keeper chooses a positive
// id that is not in use; any other, also a negative one, is taken as it is. A grant whose outcome is not known is
// tried again until it is. Errors: ErrTTLTooLarge, ErrTooMany, mvcc.ErrLeaseExists, ErrStopped, ErrNotOwner, the
// store's, and ctx's before anything was written.
func (k *Keeper) Grant(ctx context.Context, id, ttl int64) (Granted, error) {
	if ttl > MaxTTL {
		return Granted{}, ErrTTLTooLarge
	}
	if id != 0 && !k.owns(id) {
		return Granted{}, ErrNotOwner
	}
	if err := k.await(ctx); err != nil {
		return Granted{}, err
	}
	ttl = max(ttl, k.opt.MinTTL)
	if id != 0 {
		return k.grant(ctx, id, ttl)
	}
	var (
		g   Granted
		err error
	)
	for range idAttemptsMax {
		g, err = k.grant(ctx, k.newID(), ttl)
		if !errors.Is(err, mvcc.ErrLeaseExists) {
			break
		}
	}
	return g, err
}

// newID returns a random positive id of the keeper's shard.
func (k *Keeper) newID() int64 {
	for {
		if id := 1 + rand.Int64N(1<<63-1); k.owns(id) {
			return id
		}
	}
}

// grant asks the store also when the table has the lease: the store has the last word, and a lease that was revoked
// behind the keeper's back is replaced.
func (k *Keeper) grant(ctx context.Context, id, ttl int64) (Granted, error) {
	if k.table.ending(id) {
		if !k.holds() {
			return Granted{}, ErrNotOwner
		}
		return Granted{}, mvcc.ErrLeaseExists // what is left of it is not to be taken for keys of the new one
	}
	e, prior, err := k.latch(ctx, id, ttl)
	if err != nil {
		return Granted{}, err
	}
	if e.over {
		k.table.release(e, gone)
		return Granted{}, ErrTooMany
	}
	rev, err := k.store.LeaseGrant(context.WithoutCancel(ctx), id, ttl, &k.fence)
	switch {
	case err == nil && prior == gone:
		k.nudge(k.table.release(e, after(k.now(), ttl)))
	case err == nil:
		k.nudge(k.table.replace(e, ttl, after(k.now(), ttl)))
	case prior == gone && !refused(err):
		k.nudge(k.table.hand(e, grantTask, k.now()))
	default:
		k.nudge(k.table.release(e, prior))
	}
	if err != nil {
		return Granted{}, k.owner(err)
	}
	k.count.granted(ttl)
	return Granted{ID: id, TTL: ttl, Rev: rev}, nil
}

// Revoke ends a lease and deletes the keys attached to it. rev is the keyspace's revision after that. A revoke whose
// outcome is not known is carried through later: its lease is never good again. So is one that the store makes in steps
// and that fails at one of them; from the first on there is no such lease. Errors: mvcc.ErrLeaseNotFound,
// ErrStopped, ErrNotOwner, the store's, and ctx's before anything was written.
//
// The fence is used although the client's wish does not depend on who keeps the time: another keeper, which has
// loaded the lease, would go on renewing it.
func (k *Keeper) Revoke(ctx context.Context, id int64) (rev int64, err error) {
	if !k.owns(id) {
		return 0, ErrNotOwner
	}
	if err := k.await(ctx); err != nil {
		return 0, err
	}
	e, prior, err := k.latch(ctx, id, 0)
	if err != nil {
		return 0, err
	}
	rev, err = k.revoke(context.WithoutCancel(ctx), e, &k.fence)
	switch {
	case err == nil:
		k.count.revokedTotal.Add(1)
		k.table.release(e, gone)
	case errors.Is(err, mvcc.ErrLeaseNotFound):
		k.table.release(e, gone)
	case refused(err) && !e.ending.Load():
		k.nudge(k.table.release(e, prior))
	default:
		k.nudge(k.table.hand(e, revokeTask, k.now()))
	}
	return rev, k.owner(err)
}

// revoke has the store end the lease of e, whose latch the caller holds: in one revision or in steps.
func (k *Keeper) revoke(ctx context.Context, e *entry, fence *mvcc.Fence) (rev int64, err error) {
	rev, err = k.store.LeaseRevoke(ctx, e.id, fence)
	if !errors.Is(err, mvcc.ErrLeaseEnding) {
		return rev, err
	}
	k.opt.Logger.Info("a lease with many keys ends in steps", "lease", e.id)
	k.table.decide(e)
	for {
		rev, done, err := k.store.LeaseRevokeStep(ctx, e.id, fence)
		switch {
		case done || err != nil:
			return rev, err
		case ctx.Err() != nil:
			return 0, ctx.Err()
		}
		select {
		case <-k.stopped: // the next keeper goes on
			return 0, k.stopErr
		default:
		}
	}
}

// latch takes the lease for one operation, after those that are under way.
func (k *Keeper) latch(ctx context.Context, id, ttl int64) (*entry, instant, error) {
	for {
		e, prior, busy := k.table.latch(id, ttl)
		if e != nil {
			return e, prior, nil
		}
		if err := k.waitFor(ctx, busy); err != nil {
			return nil, 0, err
		}
	}
}

// TryRenew gives a lease its full time again, from this moment on. ttl is that time in seconds, or 0 if there is no
// such lease. It never waits: where Renew would have to, ok is false and nothing has happened.
func (k *Keeper) TryRenew(id int64) (ttl int64, ok bool) {
	if !k.serving.Load() || !k.owns(id) {
		return 0, false
	}
	ttl, r := k.table.renew(id, k.now())
	if r == undecided || !k.holds() {
		return 0, false
	}
	return ttl, true
}

// Renew gives a lease its full time again, from this moment on. ttl is that time in seconds, or 0 if there is no such
// lease. A lease that has expired or is being revoked is answered for when the revoke is done, or its first step is,
// with 0; one that is being granted, when that is. Errors: mvcc.ErrCorrupt (it has expired, and its keys cannot be
// deleted since data is damaged), ErrStopped, ErrNotOwner, ctx's.
//
// That Holds is asked after the renewal makes the answer right however late it leaves: another keeper claims the
// leases after that, and gives the lease its full time from then on.
func (k *Keeper) Renew(ctx context.Context, id int64) (ttl int64, err error) {
	if !k.owns(id) {
		return 0, ErrNotOwner
	}
	for {
		if err := k.await(ctx); err != nil {
			return 0, err
		}
		now := k.now()
		ttl, r := k.table.renew(id, now)
		switch {
		case !k.holds():
			return 0, ErrNotOwner
		case r != undecided:
			return ttl, nil
		case k.table.aside(id):
			return 0, errShelved
		}
		e, ended, first := k.table.wait(id, now)
		k.nudge(first)
		if e == nil {
			continue
		}
		if err := k.waitFor(ctx, ended); err != nil {
			return 0, err
		}
		if e.gone() || e.ending.Load() { // even if its id has been granted again
			return 0, nil
		}
	}
}

// Info is what is known of a lease.
type Info struct {
	ID        int64
	TTL       int64 // seconds granted
	Remaining int64 // whole seconds left, cut towards zero; 0 or below: expired, about to be revoked
	Keys      [][]byte
	Rev       int64 // the keyspace's revision: the one that Keys are of, else one not above what the rest shows
}

// TimeToLive returns what is left of a lease, and the keys attached to it if asked for, sorted. A lease that is not
// there has no error: found is false and only Rev is set. Errors: ErrStopped, ErrNotOwner, ctx's, the store's.
func (k *Keeper) TimeToLive(ctx context.Context, id int64, keys bool) (info Info, found bool, err error) {
	if !k.owns(id) {
		return Info{}, false, ErrNotOwner
	}
	if keys {
		info, found, err = k.withKeys(ctx, id)
	} else {
		info, found, err = k.withoutKeys(ctx, id)
	}
	if err == nil && !k.holds() {
		return Info{}, false, ErrNotOwner
	}
	return info, found, err
}

func (k *Keeper) withoutKeys(ctx context.Context, id int64) (info Info, found bool, err error) {
	// The revision comes first: what the answer shows is never older than its header says.
	rev, err := k.store.Head(ctx)
	if err != nil {
		return Info{}, false, err
	}
	e, err := k.settled(ctx, id)
	if e == nil || err != nil {
		return Info{ID: id, Rev: rev}, false, err
	}
	return k.info(e, rev), true, nil
}

func (k *Keeper) withKeys(ctx context.Context, id int64) (info Info, found bool, err error) {
	for {
		e, err := k.settled(ctx, id)
		if err != nil {
			return Info{}, false, err
		}
		if e == nil {
			rev, err := k.store.Head(ctx)
			return Info{ID: id, Rev: rev}, false, err
		}
		keys, rev, err := k.store.LeaseKeys(ctx, id)
		if err != nil {
			return Info{}, false, err
		}
		if e.deadline.Load() < 0 { // a revoke has begun: the keys may be gone already, the lease has to go with them
			continue
		}
		info = k.info(e, rev)
		info.Keys = keys
		return info, true, nil
	}
}

// info describes e, which was good a moment ago.
func (k *Keeper) info(e *entry, rev int64) Info {
	var left time.Duration
	if d := e.deadline.Load(); d > shelved {
		left = time.Duration(d - k.now())
	}
	return Info{ID: e.id, TTL: e.ttl, Remaining: int64(left.Seconds()), Rev: rev}
}

// settled returns the entry of a lease that no operation is under way for, or nil if there is no such lease.
func (k *Keeper) settled(ctx context.Context, id int64) (*entry, error) {
	for {
		if err := k.await(ctx); err != nil {
			return nil, err
		}
		e, busy := k.table.find(id)
		if busy == nil {
			return e, nil
		}
		if err := k.waitFor(ctx, busy); err != nil {
			return nil, err
		}
	}
}

// Leases returns the ids of all leases, the one that expires first in front. Leases that are being granted or revoked
// are waited for. Errors: ErrStopped, ErrNotOwner, ctx's.
func (k *Keeper) Leases(ctx context.Context) ([]int64, error) {
	if err := k.await(ctx); err != nil {
		return nil, err
	}
	known, busy := k.table.list()
	for _, id := range busy {
		e, err := k.settled(ctx, id)
		if err != nil {
			return nil, err
		}
		if e != nil {
			known = append(known, listed{id, max(e.deadline.Load(), 0)})
		}
	}
	if len(busy) > 0 {
		sortListed(known)
	}
	if !k.holds() {
		return nil, ErrNotOwner
	}
	ids := make([]int64, len(known))
	for i, l := range known {
		ids[i] = l.id
	}
	return ids, nil
}
