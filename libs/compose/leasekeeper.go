package compose

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/lease/shards"
	"github.com/headwaterdb/headwater/libs/relay"
)

// leasesPatience is how long a start waits for the lease keeper. On a full disk it cannot claim the leases. Reads and
// deletes are then served all the same, and requests for leases wait.
const leasesPatience = 5 * time.Second

// leasesPart keeps all leases of the keyspace in this process. If it is not the first keyspace, its leases are parked
// when it is closed.
func leasesPart(k *Keyspace) part {
	var keeper *lease.Keeper
	return part{
		open: func(ctx context.Context) (err error) {
			o := lease.Options{
				Logger: k.d.Log, Small: k.ofTable, Max: k.leasesMax(), Now: k.d.now,
			}
			if k.ofTable {
				o.Parked = k.d.all.parking.take(k.Place.ID)
			}
			if keeper, err = lease.New(k.Store, o); err != nil {
				return err
			}
			if k.ofTable {
				k.OnClose(func() error { k.parkLeases(k.d.all.parking, keeper, nil); return nil })
			}
			return k.runLeases(ctx, keeper)
		},
		register: func(r grpc.ServiceRegistrar) {
			etcdapi.RegisterLease(r, k.guard.Leases(followingLeases{keeper, k.Store}), k.Header, k.Store)
		},
		busy:       func() bool { return keeper.Next() < parkMin },
		leases:     func() int { return keeper.Stats().Active },
		collectors: func() []prometheus.Collector { return []prometheus.Collector{keeper} },
	}
}

// leasesMax returns the largest number of leases; 0: no bound.
func (k *Keyspace) leasesMax() int { return int(min(k.limits.GetLeases(), math.MaxInt32)) }

// runLeases starts the lease keeper and waits until it answers, for up to leasesPatience. In a keyspace that follows
// another one, leases are not its own to expire, so the keeper starts when following ends.
func (k *Keyspace) runLeases(ctx context.Context, keeper *lease.Keeper) error {
	ended := make(chan error, 1)
	follows := k.Store.Following()
	k.Go("leases", func(ctx context.Context) error {
		if follows {
			select {
			case <-k.Store.FollowEnded():
			case <-ctx.Done():
				return nil
			}
		}
		err := keeper.Run(ctx)
		ended <- err
		return err
	})
	if follows {
		return nil
	}
	select {
	case <-keeper.Ready():
		return nil
	case <-time.After(leasesPatience):
		k.d.Log.Warn("serving before the leases are loaded")
		return nil
	case err := <-ended:
		return fmt.Errorf("leases: %w", err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// shardedLeasesPart keeps the leases of the shards that this pod owns, and forwards requests for other shards to their
// owners.
func shardedLeasesPart(k *Keyspace) part {
	if k.ofTable {
		return hostedLeasesPart(k)
	}
	d := k.d
	var s *shards.Shards
	return part{
		open: func(context.Context) error {
			address, err := d.Address()
			if err != nil {
				return err
			}
			s, err = shards.New(k.Store, d.Engine, append(slices.Clone(k.Place.Coordination), "lease/"...),
				shards.Options{Self: address, Dial: k.dialLeaseKeeper, Now: d.now, Logger: d.Log, Beat: d.pulse.Beat})
			return err
		},
		register: func(r grpc.ServiceRegistrar) {
			etcdapi.RegisterShardedLease(r, k.guard.Leases(s), k.Header, k.Store)
		},
		begin: func(ctx context.Context) error {
			// Serve first: other pods forward requests to this one as soon as it owns a shard.
			k.Go("leases", s.Run)
			return d.await(ctx, s.Ready(), "owners of all shards of leases")
		},
		leave: func(ctx context.Context) {
			if err := s.Drain(ctx); err != nil {
				d.Log.Warn("not all shards of leases have been handed over", "error", err)
			}
		},
		collectors: func() []prometheus.Collector { return []prometheus.Collector{s} },
	}
}

// leaseKeeperOptions returns the options of a connection to another leasekeeper.
func (d *Deployment) leaseKeeperOptions(address string) (relay.Options, error) {
	o, err := d.poolOptions(config.LeaseKeeper, []string{address})
	o.AnyHealth = true
	if !relay.WantsTLS(address) { // the pod's address says whether to use TLS
		o.Credentials = nil
	}
	return o, err
}

// leaseClient is the Lease service of another pod.
type leaseClient struct {
	pb.LeaseClient
	pool  *relay.Pool
	guard *etcdapi.Guard
	// restricted says that not everybody may enter the keyspace.
	restricted func() bool
}

// LeaseKeepAlive implements pb.LeaseClient. The stream carries the renewals of many clients, which this pod has
// checked.
func (c leaseClient) LeaseKeepAlive(ctx context.Context, o ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	ctx, err := c.guard.AsPeer(ctx, c.restricted())
	if err != nil {
		return nil, err
	}
	return c.LeaseClient.LeaseKeepAlive(ctx, o...)
}

// Close implements io.Closer.
func (c leaseClient) Close() error { return c.pool.Close() }

// dialLeaseKeeper connects to another leasekeeper. It ignores the pod's health, because a pod that drains still answers
// for its shards.
func (k *Keyspace) dialLeaseKeeper(address string) (pb.LeaseClient, error) {
	o, err := k.d.leaseKeeperOptions(address)
	if err != nil {
		return nil, err
	}
	pool, err := relay.NewPool(o)
	if err != nil {
		return nil, err
	}
	return leaseClient{
		pb.NewLeaseClient(pool.Conn()), pool, k.guard,
		func() bool { return !keyspace.IsOpen(k.d.all.door.Load().rule) },
	}, nil
}
