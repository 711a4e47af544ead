package compose

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/alarm"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/feed"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/lease/shards"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// manyMember is the name of the only member of every keyspace that all pods serve, whatever the names of the keyspace
// and of the pods.
const manyMember = "headwater"

// errShared: pods cannot have a keyspace to themselves that all pods serve.
var errShared = errors.New(
	"--keyspace: all pods of the deployment serve it: clients name it, and pods are started with another, " +
		"such as default",
)

// many is what a pod has for the keyspaces that all pods of the deployment serve: its share of the work that goes on
// without requests. It does not grow with the number of keyspaces, and is empty until there is such a keyspace.
type many struct {
	d      keyspace.Deployment
	heads  *feed.Heads    // of a watchhub pod
	leases *leaseHost     // of a leasekeeper pod
	places *shards.Places // of the work of kv and leasekeeper pods

	mu      sync.Mutex
	begun   bool          // the work has begun
	working chan struct{} // closed then
}

// open makes what does nothing yet. The deployment closes it.
func (m *many) open(s *keyspaces) error {
	m.d, m.working = keyspace.NewDeployment(s.root()), make(chan struct{})
	d := s.d
	self, err := d.Address()
	switch {
	case d.Kind == config.WatchHub:
		var rows []feed.ShardRows
		for shard := range keyspace.Shards {
			rows = append(rows, feed.ShardRows{Heads: m.d.Heads(shard), Bell: m.d.Bell(shard)})
		}
		m.heads = feed.NewHeads(d.Engine, rows)
		d.OnClose(func() error { m.heads.Close(); return nil })
		return nil
	case d.Kind == config.LeaseKeeper && err != nil:
		return err // without an address other pods cannot forward to this one
	case err != nil:
		self = d.Config.Name
	}
	o := shards.PlacesOptions{Self: self, Now: d.now, Logger: d.Log}
	work := "compactor"
	if d.Kind == config.LeaseKeeper {
		m.leases = newLeaseHost(s)
		d.OnClose(m.leases.close)
		work, o.Work = "lease", m.leases.work
	} else {
		c := &compactions{s: s}
		o.Work, o.TTL = c.work, compactorTTL
	}
	m.places, err = shards.NewPlaces(d.Engine, m.d.Coordination(work), o)
	return err
}

// work starts this pod's share of the work for the keyspaces that all pods serve, unless it has started or these pods
// serve none. It is called again when the table changes, by each review, and by calls.
func (s *keyspaces) work(ctx context.Context) {
	m := &s.joint
	if m.places == nil || s.together(ctx) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun {
		return
	}
	if err := m.d.Found(ctx, s.d.Engine); err != nil {
		if ctx.Err() == nil {
			s.d.Log.Error("the work for the keyspaces of the deployment has not begun", "error", err)
		}
		return
	}
	m.begun = true
	close(m.working)
	s.d.Go("shards of keyspaces", m.places.Run)
}

// together says whether these pods may serve keyspaces in addition to their first. It returns nil if the release of all
// pods can. Errors: errOnePods, the store's.
func (s *keyspaces) together(ctx context.Context) error {
	if s.first.Store.Features().Has(mvcc.FeatureKeyspaces) {
		return nil
	}
	if _, err := s.first.Store.Head(ctx); err != nil { // it also reads the present features
		return err
	}
	if !s.first.Store.Features().Has(mvcc.FeatureKeyspaces) {
		return errOnePods
	}
	return nil
}

// servesMany says whether this pod serves a keyspace of the table. Errors: errOwnPods, and as together.
func (s *keyspaces) servesMany(ctx context.Context, info keyspace.Info) error {
	if !info.Shared() {
		return errOwnPods
	}
	return s.together(ctx)
}

// leave hands over what other pods can take, until ctx ends.
func (s *keyspaces) leave(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.first.leave(ctx) })
	m := &s.joint
	m.mu.Lock()
	begun := m.begun
	m.mu.Unlock()
	if !begun {
		return
	}
	if err := m.places.Drain(ctx); err != nil {
		s.d.Log.Warn("not all shards of keyspaces have been handed over", "error", err)
	}
}

// openOfMany opens a keyspace that all pods serve.
func (k *Keyspace) openOfMany(ctx context.Context, o mvcc.Options) (err error) {
	d := k.d
	rows := d.all.joint.d.Beside(k.Place.ID)
	o.Prefix, o.Lanes, o.NoRemoval = k.Place.Prefix, d.Config.Lanes, true
	// Releases that do not know the rows in Beside must not write this keyspace.
	o.Features, o.Activate = mvcc.FeaturesAll|mvcc.FeatureKeyspaces, 0
	o.Beside = (*mvcc.Beside)(&rows)
	if d.Bus != nil {
		o.Committed = func() { d.Bus.Nudge(k.Subject) }
	}
	if k.Store, err = mvcc.Open(ctx, d.stores(), o); err != nil {
		return err
	}
	k.OnClose(k.Store.Close)
	if k.Alarms, err = alarm.Open(ctx, k.Store); err != nil {
		return fmt.Errorf("alarms: %w", err)
	}
	cluster := k.Store.Meta().ClusterID
	k.Subject = feed.Name(fmt.Sprint(k.Place.ID), cluster)
	k.Member, k.Header = manyMember, header(cluster, manyMember)
	k.Go("alarms", func(ctx context.Context) error { k.Alarms.Follow(ctx, d.Log, &d.pulse); return nil })
	return nil
}

// name returns the present name of the keyspace, as far as this process knows it.
func (k *Keyspace) name() string {
	if info, ok := k.d.all.table.ByID(k.Place.ID); ok {
		return info.Name
	}
	return k.Place.Name
}

// Times of the follower of a hub for one of many keyspaces. The rows of its shard report new entries.
const (
	manyPoll  = 10 * time.Second
	manyCheck = 2 * time.Second
)

// Limits of what is read from before the head when the hub of one of many keyspaces starts.
const (
	manyWindowEntries = 1000
	manyWindowBytes   = 1 << 20
)

// openOfMany makes the follower of the log of one of many keyspaces. The rows of its shard report new entries. They are
// read once for all keyspaces of the shard that somebody watches, and writers in this process report sooner.
func (n *followingHub) openOfMany() error {
	k, m := n.k, &n.k.d.all.joint
	k.tailing.init(k.Subject)
	k.guard.OnChange(n.changed)
	k.OnClose(n.closeHub)
	log := m.heads.Log(k.Store, m.d.Shard(k.Place.ID), m.d.Beside(k.Place.ID).Head)
	n.follower = feed.NewFollower(log, nil, feed.FollowerOptions{
		Keyspace: k.Subject, Reset: n.reset, Apply: n.apply, Stall: n.stall, Auth: n.recheck,
		Logger: k.d.Log, Pulse: &k.d.pulse,
		Poll: manyPoll, Check: manyCheck, WindowEntries: manyWindowEntries, WindowBytes: manyWindowBytes,
	})
	if k.d.Bus == nil {
		return nil
	}
	cancel, err := k.d.Bus.OnNudge(k.Subject, log.Nudge)
	if err == nil {
		k.OnClose(func() error { cancel(); return nil })
	}
	return err
}
