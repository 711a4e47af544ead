package compose

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/alarm"
	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/fair"
	"github.com/headwaterdb/headwater/libs/feed"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// deletedPause is the time between two attempts to wait for the deletion of a keyspace while the store cannot be
// reached.
const deletedPause = time.Second

// Keyspace is what exists once for each keyspace that the process serves. A Deployment is what they share. The first
// keyspace is opened and closed together with the Deployment.
type Keyspace struct {
	Place  keyspace.Keyspace // where its rows are; zero: it has the store to itself
	Store  *mvcc.Store
	Alarms *alarm.State
	Header etcdapi.Header
	guard  *etcdapi.Guard // decides who may do what
	Member string         // the name of its only member
	// Subject is its name on the bus.
	Subject string

	life
	d       *Deployment
	ofTable bool // it is not the first, and its calls open it
	damage  *alarm.Damage
	parts   []part
	limits  *keyspacev1.Limits // of its row; nil: the defaults of the deployment
	// services are the services of the keyspace. endStreams ends those of their streams that do not end by themselves.
	services   *serviceSet
	endStreams context.CancelFunc
	tally      *tally  // of calls to it
	shares     *shares // nil: of nothing
	// The keyspace's part of what the keyspaces of the process share, so that none takes another's.
	answers   *etcdapi.Answers
	passwords *auth.Passwords
	making    *fair.Flow   // of snapshots
	snapshots atomic.Int32 // that wait, are being made, or are being sent
	tailing   tailing      // this pod's part in publishing the log
	opened    int64        // the revision at which it was opened, if the store is the process's own
}

// newKeyspace returns a keyspace that d serves, with the parts that makers make. It is not opened yet. Its place and
// its limits come from the table; they are zero for the first keyspace.
func newKeyspace(
	d *Deployment, makers []func(*Keyspace) part, place keyspace.Keyspace, l *keyspacev1.Limits,
) *Keyspace {
	k := &Keyspace{
		d: d, Place: place, ofTable: place.ID != 0, limits: l, damage: alarm.NewDamage(d.Log), tally: new(tally),
		answers: d.answers.Share(d.many), passwords: d.passwords.Share(), making: d.making.Flow(1),
	}
	k.begin(d.patience, d.Fail)
	k.shares = d.gates.flows(1)
	for _, m := range makers {
		k.parts = append(k.parts, m(k))
	}
	return k
}

// open opens the store, the alarms, and then the parts. What has been opened is closed with the Deployment.
func (k *Keyspace) open(ctx context.Context) error {
	o := mvcc.Options{OnDamage: k.damage.Report, Activate: k.d.Config.ActivateFeatures, Logger: k.d.Log}
	k.shares.want(&o)
	for _, p := range k.parts {
		if p.want != nil {
			p.want(&o)
		}
	}
	openStore := k.openOwn
	switch {
	case !k.d.Kind.IsPod():
	case k.ofTable:
		openStore = k.openOfMany
	default:
		openStore = k.openShared
	}
	if err := openStore(ctx, o); err != nil {
		return err
	}
	k.guard = k.newGuard()
	k.Go("damage", func(ctx context.Context) error { k.damage.Run(ctx, k.Alarms, k.Header.MemberID); return nil })
	for _, p := range k.parts {
		if p.open == nil {
			continue
		}
		if err := p.open(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openOwn opens the keyspace on a store of the process's own.
func (k *Keyspace) openOwn(ctx context.Context, o mvcc.Options) (err error) {
	o.CloseGrace, o.Prefix, o.Joint = writesGrace, k.Place.Prefix, k.d.joint
	if k.Store, err = mvcc.Open(ctx, k.d.Engine, o); err != nil {
		return err
	}
	k.OnClose(k.Store.Close)
	logFeatures(k.d.Log, k.Store.Features(), mvcc.FeaturesAll)
	if k.Alarms, err = alarm.Open(ctx, k.Store); err != nil {
		return err
	}
	k.Member = k.d.Config.Name
	k.Header = header(k.Store.Meta().ClusterID, k.Member)
	k.opened, err = k.Store.Head(ctx)
	return err
}

// openShared opens the keyspace on a store that pods share. While the store cannot be reached, it waits.
func (k *Keyspace) openShared(ctx context.Context, o mvcc.Options) error {
	d, name := k.d, k.d.Config.Keyspace
	o.Lanes, o.NoRemoval = d.Config.Lanes, true
	if d.Bus != nil {
		// Subject is not known yet. No group commits before it is: no requests come until services are registered.
		o.Committed = func() { d.Bus.Nudge(k.Subject) }
	}
	if err := d.AwaitStore(ctx, func(ctx context.Context) error { return k.openPlace(ctx, name, o) }); err != nil {
		return fmt.Errorf("keyspace %s: %w", name, err)
	}
	k.OnClose(k.Store.Close)
	logFeatures(d.Log, k.Store.Features(),
		mvcc.FeatureValues|mvcc.FeatureCounts|mvcc.FeatureLeaseSteps|mvcc.FeatureFences)
	cluster := k.Store.Meta().ClusterID
	k.Subject = feed.Name(name, cluster)
	// There is one member for the whole deployment, whatever the names of the pods.
	k.Member, k.Header = name, header(cluster, name)
	openAlarms := func(ctx context.Context) (err error) { k.Alarms, err = alarm.Open(ctx, k.Store); return err }
	if err := d.AwaitStore(ctx, openAlarms); err != nil {
		return fmt.Errorf("alarms: %w", err)
	}
	k.Go("keyspace", k.watchDeleted)
	k.Go("store", k.checkStore)
	return nil
}

func (k *Keyspace) openPlace(ctx context.Context, name string, o mvcc.Options) (err error) {
	root := []byte(k.d.Config.FDBRoot)
	if k.Place, err = keyspace.Open(ctx, k.d.Engine, root, name); err != nil {
		return err
	}
	switch info, err := keyspace.Show(ctx, k.d.Engine, root, name); {
	case err != nil:
		return err
	case info.Shared():
		return errShared
	default:
		k.d.all.setDoor(info.Row.GetAccess())
	}
	o.Prefix = k.Place.Prefix
	if k.Store, err = mvcc.Open(ctx, k.d.stores(), o); err == nil {
		k.d.store.Store(k.Store)
	}
	return err
}

// campaign makes this pod stand for a place that only one pod has at a time, and calls work for each of its terms.
// ttl and renew are those of election.Options; 0: their defaults.
func (k *Keyspace) campaign(
	place string, ttl, renew time.Duration, work func(context.Context, *election.Term) error,
) error {
	d := k.d
	candidate, err := election.New(d.Engine, election.Options{
		Key:    append(slices.Clone(k.Place.Coordination), place+"/"...),
		Holder: d.holder(), TTL: ttl, Renew: renew, Beat: d.pulse.Beat, Now: d.now, Logger: d.Log,
	})
	if err != nil {
		return err
	}
	k.Go(place, func(ctx context.Context) error { return candidate.Run(ctx, work) })
	return nil
}

// watchDeleted ends the pod when its keyspace is deleted.
func (k *Keyspace) watchDeleted(ctx context.Context) error {
	for {
		err := keyspace.WaitDeleted(ctx, k.d.Engine, []byte(k.d.Config.FDBRoot), k.Place)
		if err == nil {
			return errors.New("the keyspace has been deleted")
		}
		if retry.Sleep(ctx, deletedPause) != nil {
			return nil //nolint:nilerr // ctx has ended, which is the normal end
		}
	}
}

// start makes the services of the keyspace, and begins what needs clients to be served.
func (k *Keyspace) start(ctx context.Context) error {
	if err := k.register(); err != nil {
		return err
	}
	return k.beginParts(ctx)
}

// register makes all of the keyspace's services. Those of other kinds of pods are relays.
func (k *Keyspace) register() error {
	ending, end := context.WithCancel(k.d.GRPC.Draining())
	k.endStreams = end
	k.OnClose(func() error { end(); return nil })
	k.services = newServiceSet(k.d.GRPC, ending)
	k.registerCore(k.services)
	for _, p := range k.parts {
		if p.registerMore == nil {
			continue
		}
		if err := p.registerMore(k.services); err != nil {
			return err
		}
	}
	return nil
}

// beginParts starts what needs clients and other pods to be served.
func (k *Keyspace) beginParts(ctx context.Context) error {
	for _, p := range k.parts {
		if p.begin == nil {
			continue
		}
		if err := p.begin(ctx); err != nil {
			return err
		}
	}
	return nil
}

// drain ends the keyspace's streams.
func (k *Keyspace) drain() {
	if k.endStreams != nil {
		k.endStreams()
	}
	for _, p := range k.parts {
		if p.drain != nil {
			p.drain()
		}
	}
}

// busy says whether something in the keyspace goes on without calls.
func (k *Keyspace) busy() bool {
	for _, p := range k.parts {
		if p.busy != nil && p.busy() {
			return true
		}
	}
	return false
}

// registerCore registers KV, Watch and Lease, which the Lock and Election services need. Calls that are relayed are
// guarded by the pod that answers them.
func (k *Keyspace) registerCore(r grpc.ServiceRegistrar) {
	for _, p := range k.parts {
		if p.register != nil {
			p.register(k.guard.Registrar(r))
		}
	}
	if k.d.Kind.IsPod() && k.ofTable {
		r = naming{r, k.name}
	}
	k.d.relay(r)
}

// newGuard returns the guard of the keyspace. The store must be open.
func (k *Keyspace) newGuard() *etcdapi.Guard {
	d := k.d
	o := etcdapi.GuardOptions{
		Keyspace: k.Store.Meta().ClusterID, JWT: d.jwt, TokenTTL: d.Config.AuthTokenTTL, Passwords: k.passwords,
		Shared: d.Kind.IsPod(), Log: d.Log,
	}
	if d.Config.ClientTLS.ClientCertAuth {
		o.CertName = func(ctx context.Context) (string, bool) {
			id, ok := tlsconf.FromContext(ctx)
			return id.CommonName, ok
		}
	}
	return etcdapi.NewGuard(k.Store, o)
}

// logFeatures logs which features the rows of the keyspace have, and which possible ones they lack.
func logFeatures(log *slog.Logger, f, able mvcc.Features) {
	log.Info("data format", "features", f.String())
	if missing := able &^ f; missing != 0 {
		log.Warn(
			"the data was written by an earlier release and keeps the format that it can read; "+
				"--activate-features=all sets what is new, for good",
			"inactive", missing.String(),
		)
	}
}
