package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Granted is the result of a grant.
type Granted struct {
	ID  int64
	TTL int64 // seconds: the requested time, or the minimum if that is longer
	Rev int64 // the keyspace's revision after the grant
}

// Grant creates a lease that lives for at least ttl seconds from its answer on. With id 0 the keeper chooses a positive
// id that is not in use. Any other id, also a negative one, is used as it is. A grant whose outcome is unknown is tried
// again until it is known. Errors: ErrTTLTooLarge, ErrTooMany, mvcc.ErrLeaseExists, ErrStopped, ErrNotOwner, the
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

// grant asks the store even if the table has the lease. The store decides: a lease that was revoked without the keeper
// is replaced.
func (k *Keeper) grant(ctx context.Context, id, ttl int64) (Granted, error) {
	if k.table.ending(id) {
		if !k.holds() {
			return Granted{}, ErrNotOwner
		}
		return Granted{}, mvcc.ErrLeaseExists // keys left of the old lease must not count as keys of the new one
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

// Revoke ends a lease and deletes the keys attached to it. rev is the keyspace's revision afterwards. A revoke whose
// outcome is unknown is completed later: its lease is never valid again. The same holds for a revoke in steps that
// fails at one of them: from the first step on the lease does not exist. Errors: mvcc.ErrLeaseNotFound, ErrStopped,
// ErrNotOwner, the store's, and ctx's before anything was written.
//
// The revoke carries the fence, although the client does not care which keeper keeps the time: another keeper that has
// loaded the lease would otherwise continue to renew it.
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

// revoke makes the store end the lease of e, whose latch the caller holds, in one revision or in steps.
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
		case <-k.stopped: // the next keeper continues
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

// TryRenew gives a lease its full time again, from now on. ttl is that time in seconds, or 0 if there is no such lease.
// It never waits: where Renew would have to, ok is false and nothing has happened.
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

// Renew gives a lease its full time again, from now on. ttl is that time in seconds, or 0 if there is no such lease. If
// the lease is being granted, Renew waits for that. If the lease has expired or is being revoked, it waits for the
// revoke or its first step, and returns 0. Errors: mvcc.ErrCorrupt (the lease has expired, and its keys cannot be
// deleted because of damaged data), ErrStopped, ErrNotOwner, ctx's.
//
// Holds is checked after the renewal, so the answer is right however late it leaves: another keeper can claim the
// leases only after the check, and then gives the lease its full time.
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

// Info is what the keeper knows about a lease.
type Info struct {
	ID        int64
	TTL       int64 // seconds granted
	Remaining int64 // whole seconds left, cut towards zero; 0 or below: expired, about to be revoked
	Keys      [][]byte
	Rev       int64 // the revision at which Keys were read; without Keys, one not above the state shown
}

// TimeToLive returns the remaining time of a lease and, if requested, the keys attached to it, sorted. If the lease
// does not exist there is no error: found is false, and only Rev is set. Errors: ErrStopped, ErrNotOwner, ctx's, the
// store's.
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
	// The revision is read first: the answer is never older than its header says.
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
		if e.deadline.Load() < 0 { // a revoke has begun: the keys may be gone already, so the lease must not be shown
			continue
		}
		info = k.info(e, rev)
		info.Keys = keys
		return info, true, nil
	}
}

// info describes e, which was valid a moment ago.
func (k *Keeper) info(e *entry, rev int64) Info {
	var left time.Duration
	if d := e.deadline.Load(); d > shelved {
		left = time.Duration(d - k.now())
	}
	return Info{ID: e.id, TTL: e.ttl, Remaining: int64(left.Seconds()), Rev: rev}
}

// settled returns the entry of a lease without an operation under way, or nil if there is no such lease.
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

// Leases returns the ids of all leases, in the order in which they expire. It waits for leases that are being granted
// or revoked. Errors: ErrStopped, ErrNotOwner, ctx's.
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
