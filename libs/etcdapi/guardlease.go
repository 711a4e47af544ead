package etcdapi

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Leases returns the owner of the leases behind the guard.
func (g *Guard) Leases(keeper LeaseKeeper) LeaseKeeper { return guardedLeases{keeper, g} }

type guardedLeases struct {
	LeaseKeeper
	g *Guard
}

// Grant implements LeaseKeeper.
func (l guardedLeases) Grant(ctx context.Context, id, ttl int64) (granted lease.Granted, err error) {
	err = l.g.carry(ctx, needUser, func(a *mvcc.Access) (err error) {
		granted, err = l.LeaseKeeper.Grant(mvcc.WithAccess(ctx, a), id, ttl)
		return err
	})
	return granted, err
}

// Revoke implements LeaseKeeper. The transaction checks whether the keys on the lease may be written.
func (l guardedLeases) Revoke(ctx context.Context, id int64) (rev int64, err error) {
	err = l.g.carry(ctx, needUser, func(a *mvcc.Access) (err error) {
		rev, err = l.LeaseKeeper.Revoke(mvcc.WithAccess(ctx, a), id)
		return err
	})
	if errors.Is(err, mvcc.ErrDenied) {
		err = l.g.check(ctx, whyDenied)
	}
	return rev, err
}

// whyDenied returns the reason why a key on a lease could not be written.
func whyDenied(s *auth.State, id auth.Identity) error {
	if err := s.MayWrite(id, []byte{0}, nil); errors.Is(err, auth.ErrAuthOldRevision) {
		return err
	}
	return auth.ErrPermissionDenied
}

// TimeToLive implements LeaseKeeper. It shows keys to users who may read all of them.
func (l guardedLeases) TimeToLive(ctx context.Context, id int64, keys bool) (info lease.Info, found bool, err error) {
	err = l.g.during(ctx, needUser, func(may func(need) error) (err error) {
		if info, found, err = l.LeaseKeeper.TimeToLive(ctx, id, keys); err != nil {
			return err
		}
		return may(readsAll(info.Keys))
	})
	if err != nil {
		return lease.Info{}, false, err
	}
	return info, found, nil
}

// readsAll returns the permission that is needed to see keys.
func readsAll(keys [][]byte) need {
	return func(s *auth.State, id auth.Identity) error { return everyKey(s, id, keys, s.MayRead) }
}

// everyKey checks that each of the keys may be read or written. A user who may do everything needs no check per key.
func everyKey(s *auth.State, id auth.Identity, keys [][]byte, may func(auth.Identity, []byte, []byte) error) error {
	if s.Everything(id) {
		return nil
	}
	for _, key := range keys {
		if err := may(id, key, nil); err != nil {
			return err
		}
	}
	return nil
}

// Leases implements LeaseKeeper. It shows the leases to users who may read the keys on all of them, as in etcd.
func (l guardedLeases) Leases(ctx context.Context) ([]int64, error) {
	var ids []int64
	err := l.g.during(ctx, needUser, func(may func(need) error) (err error) {
		if ids, err = l.LeaseKeeper.Leases(ctx); err != nil || may(needAdmin) == nil {
			return err
		}
		return l.g.store.AttachedKeys(ctx, func(key []byte) error { return may(readsAll([][]byte{key})) })
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// renewChecker is a LeaseKeeper whose renewals need a permission.
type renewChecker interface {
	mayRenew(ctx context.Context, id int64) error
}

// mayRenew checks whether the client of a stream may renew a lease: it must be allowed to write the keys on it.
func (l guardedLeases) mayRenew(ctx context.Context, id int64) error {
	g := l.g
	if g.open() != nil {
		return nil
	}
	k, err := g.current(ctx)
	if err != nil {
		return err
	}
	if k.Enabled() && g.isPeer(ctx, k) {
		return nil // the other process has checked its clients
	}
	k, a, err := g.settle(ctx, k, needUser)
	if err != nil || a.MayWrite == nil {
		return err
	}
	keys, _, err := g.store.LeaseKeys(ctx, id)
	if err != nil {
		return err
	}
	_, _, err = g.settle(ctx, k, func(s *auth.State, who auth.Identity) error {
		return everyKey(s, who, keys, s.MayWrite)
	})
	return err
}
