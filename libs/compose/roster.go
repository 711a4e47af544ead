package compose

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwaterdb/headwater/libs/admin"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/server"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Times of the rows in which pods report that they are there. No decision depends on them.
const (
	// rosterEvery is the time between two reports of a pod whose state has not changed.
	rosterEvery = 10 * time.Second
	// rosterForget is how long the row of a pod that has died stays.
	rosterForget = time.Hour
	// rosterTimeout bounds the time to write a row.
	rosterTimeout = time.Second
)

// holder returns the name of this process in elections.
func (d *Deployment) holder() string { return string(d.Kind) + " " + d.Config.Name + " " + d.URL() }

// self returns the row in which this process describes itself.
func (s *keyspaces) self(started time.Time) *keyspacev1.Pod {
	d := s.d
	p := &keyspacev1.Pod{
		Kind: string(d.Kind), Name: d.Config.Name, Url: d.URL(), Version: server.Version, Holder: d.holder(),
		Started: timestamppb.New(started), Keyspace: s.firstName(), Ready: true,
	}
	if d.Kind.IsPod() {
		p.Address, _ = d.Address() // a pod without an address owns no shards
	}
	if err := d.ready.check(context.Background()); err != nil {
		p.Ready, p.Reason = false, err.Error()
	}
	p.Numbers = s.numbers()
	return p
}

// numbers returns what this process does and holds. It looks at every watch stream, and reads the head.
func (s *keyspaces) numbers() *keyspacev1.PodNumbers {
	n := &keyspacev1.PodNumbers{}
	all := []*Keyspace{s.first}
	s.mu.Lock()
	for _, o := range s.open {
		if k := o.opened(); k != nil && o.ending == nil {
			all = append(all, k)
		}
	}
	s.mu.Unlock()
	n.KeyspacesOpen = int64(len(all))
	for _, k := range all {
		k.addNumbers(n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), rosterTimeout)
	defer cancel()
	if head, err := s.first.Store.Head(ctx); err == nil {
		n.Revision = max(head, n.HubRevision)
	}
	return n
}

// addNumbers adds the numbers of a keyspace.
func (k *Keyspace) addNumbers(n *keyspacev1.PodNumbers) {
	n.Reads += k.tally.reads.Load()
	n.Writes += k.tally.writes.Load()
	for _, p := range k.parts {
		if p.leases != nil {
			n.Leases += int64(p.leases())
		}
		if p.watch == nil {
			continue
		}
		w := p.watch()
		n.Hub = true
		n.Streams += int64(w.Streams)
		n.Watchers += int64(w.Watchers)
		n.SlowWatchers += int64(w.Lagging)
		n.LagMillis = max(n.LagMillis, w.LagTime.Milliseconds())
		if !k.ofTable {
			n.HubRevision = w.Position
		}
	}
}

// announce writes the row in which this pod reports itself, until ctx ends, and then removes it. If it cannot be
// written, the next beat tries again.
func (s *keyspaces) announce(ctx context.Context) error {
	started := time.Now()
	s.attempt(ctx, func(ctx context.Context) error {
		return keyspace.ForgetPods(ctx, s.d.Engine, s.root(), started.Add(-rosterForget))
	})
	beat := time.NewTicker(rosterEvery)
	defer beat.Stop()
	for {
		p := s.self(started)
		p.Seen, p.Every = timestamppb.Now(), durationpb.New(rosterEvery)
		s.attempt(ctx, func(ctx context.Context) error { return keyspace.Announce(ctx, s.d.Engine, s.root(), p) })
		select {
		case <-ctx.Done():
			s.attempt(context.WithoutCancel(ctx), func(ctx context.Context) error {
				return keyspace.Withdraw(ctx, s.d.Engine, s.root(), p)
			})
			return nil
		case <-s.d.ready.changed:
		case <-beat.C:
		}
	}
}

// attempt runs f for at most rosterTimeout, and logs its error.
func (s *keyspaces) attempt(ctx context.Context, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, rosterTimeout)
	defer cancel()
	if err := f(ctx); err != nil {
		s.d.Log.Debug("the row of this pod", "error", err)
	}
}

// About implements admin.Host.
func (h adminHost) About() admin.About {
	return admin.About{
		Kind: string(h.d.Kind), Name: h.d.Config.Name, Version: server.Version, EtcdVersion: etcdapi.EmulatedVersion,
		Features: h.first.Store.Features().String(),
	}
}

// Alone implements admin.Host.
func (h adminHost) Alone() *keyspacev1.Pod {
	if h.d.Kind.IsPod() {
		return nil
	}
	return h.self(h.started)
}

// Coordination implements admin.Host. This process knows nothing of keyspaces that have other pods.
func (h adminHost) Coordination() []admin.Coordination {
	if !h.d.Kind.IsPod() {
		return nil
	}
	return []admin.Coordination{
		{Keyspace: h.firstName(), Prefix: h.first.Place.Coordination},
		{Prefix: keyspace.DeploymentCoordination(h.root())},
	}
}
