package compose

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/compactor"
	"github.com/headwaterdb/headwater/libs/election"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/loopback"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/relay"
)

// compactorTTL is how long the compactor's place stays taken after its pod has died. Nobody waits for it.
const compactorTTL = 20 * time.Second

// kvPart is reads, writes and maintenance, and Lock and Election on top of the whole API.
func kvPart(k *Keyspace) part {
	// A process asks once for the bounds: they hold the account of all its answers.
	c := k.d.Config
	bounds := etcdapi.KVOptions{
		MaxTxnOps: c.MaxTxnOps, MaxRequestBytes: c.MaxRequestBytes, Answers: etcdapi.NewAnswers(c.MaxAnswerBytes), Relayed: relay.Relayed,
	}
	return part{
		register:     func(r grpc.ServiceRegistrar) { etcdapi.RegisterKV(r, k.Store, k.Header, bounds) },
		registerMore: k.registerMember,
	}
}

// registerMember registers what a kv owns beside KV.
func (k *Keyspace) registerMember(r grpc.ServiceRegistrar) error {
	etcdapi.RegisterCluster(r, k.Header, etcdapi.Member{Name: k.Member, ClientURLs: k.d.AdvertisedURLs()})
	etcdapi.RegisterMaintenance(r, k.Header, k.Store, k.Alarms, k.quota())
	etcdapi.RegisterAuth(r, k.Header, k.Store)
	local, err := loopback.New(k.registerCore)
	if err != nil {
		return err
	}
	k.d.OnClose(local.Close)
	etcdapi.RegisterLock(r, local.Client())
	etcdapi.RegisterElection(r, local.Client())
	return nil
}

// compactorPart compacts by itself where nobody else does. (The store removes what is compacted.)
func compactorPart(k *Keyspace) part {
	return part{open: func(context.Context) error {
		planner, err := k.planner()
		if err == nil && planner != nil {
			k.d.Go("compactor", func(ctx context.Context) error {
				compactor.Run(ctx, k.d.Log, planner, k.Store, mvcc.ErrCompacted)
				return nil
			})
		}
		return err
	}}
}

// electedCompactorPart campaigns for the place of the compactor.
func electedCompactorPart(k *Keyspace) part {
	return part{open: func(context.Context) error {
		// The planner is made anew for each term: it notes heads over time.
		if _, err := k.planner(); err != nil {
			return err
		}
		return k.d.campaign("compactor", k.Place.Coordination, compactorTTL, k.compact)
	}}
}

// planner says when to compact up to which revision; nil: never.
func (k *Keyspace) planner() (compactor.Planner, error) {
	return compactor.Parse(k.d.Config.AutoCompactionMode, k.d.Config.AutoCompactionRetention)
}

// compact does the work of the compactor until its term ends.
func (k *Keyspace) compact(ctx context.Context, _ *election.Term) error {
	planner, err := k.planner()
	if err != nil {
		return err
	}
	d := k.d
	var wg sync.WaitGroup
	defer wg.Wait()
	if planner != nil {
		wg.Go(func() { compactor.Run(ctx, d.Log, planner, k.Store, mvcc.ErrCompacted) })
	}
	wg.Go(func() {
		_ = keyspace.Tend(ctx, d.Engine, []byte(d.Config.FDBRoot), nil, func(err error) {
			d.Log.Warn("deleted keyspaces could not be cleared, will be tried again", "error", err)
		})
	})
	k.Store.RemoveCompacted(ctx)
	return nil
}
