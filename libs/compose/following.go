package compose

import (
	"context"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// followingLeases are the leases of a keyspace that may follow another one. While it does, it answers nothing about
// leases, because they are the other keyspace's.
type followingLeases struct {
	etcdapi.LeaseKeeper
	store *mvcc.Store
}

func (l followingLeases) check() error {
	if l.store.Following() {
		return mvcc.ErrFollowing
	}
	return nil
}

// Grant implements etcdapi.LeaseKeeper.
func (l followingLeases) Grant(ctx context.Context, id, ttl int64) (lease.Granted, error) {
	if err := l.check(); err != nil {
		return lease.Granted{}, err
	}
	return l.LeaseKeeper.Grant(ctx, id, ttl)
}

// Revoke implements etcdapi.LeaseKeeper.
func (l followingLeases) Revoke(ctx context.Context, id int64) (rev int64, err error) {
	if err := l.check(); err != nil {
		return 0, err
	}
	return l.LeaseKeeper.Revoke(ctx, id)
}

// Renew implements etcdapi.LeaseKeeper.
func (l followingLeases) Renew(ctx context.Context, id int64) (ttl int64, err error) {
	if err := l.check(); err != nil {
		return 0, err
	}
	return l.LeaseKeeper.Renew(ctx, id)
}

// TimeToLive implements etcdapi.LeaseKeeper.
func (l followingLeases) TimeToLive(ctx context.Context, id int64, keys bool) (info lease.Info, found bool, err error) {
	if err := l.check(); err != nil {
		return lease.Info{}, false, err
	}
	return l.LeaseKeeper.TimeToLive(ctx, id, keys)
}

// Leases implements etcdapi.LeaseKeeper.
func (l followingLeases) Leases(ctx context.Context) ([]int64, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	return l.LeaseKeeper.Leases(ctx)
}
