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

// compactorTTL is how long the compactor's place stays taken after its pod has died. A client that waits for the
// removal (compact --physical) waits for the next compactor.
const compactorTTL = 3 * time.Second

// compactorRenew is the time between two renewals of the compactor's term. It is that of the other checks of a pod
// without clients, so that a kv pod wakes up once a second for all of them. The term leaves room for one more attempt.
const compactorRenew = time.Second

// kvPart owns reads, writes and maintenance, and Lock and Election, which use the whole API.
func kvPart(k *Keyspace) part {
	c := k.d.Config
	bounds := etcdapi.KVOptions{
		MaxTxnOps: c.MaxTxnOps, MaxRequestBytes: k.requestBytes(), Answers: k.answers, Relayed: relay.Relayed,
	}
	return part{
		register:     func(r grpc.ServiceRegistrar) { etcdapi.RegisterKV(r, k.guard.KV(k.Store), k.Header, bounds) },
		registerMore: k.registerMember,
	}
}

// requestBytes bounds a request: by the keyspace's limit, but never more than the server takes.
func (k *Keyspace) requestBytes() int {
	most := k.d.Config.MaxRequestBytes
	if own := k.limits.GetRequestBytes(); own > 0 && own < uint64(most) {
		return int(own)
	}
	return most
}

// registerMember registers what a kv owns in addition to KV.
func (k *Keyspace) registerMember(r grpc.ServiceRegistrar) error {
	r = k.guard.Registrar(r)
	etcdapi.RegisterCluster(r, k.Header, etcdapi.Member{
		Name: k.Member, ClientURLs: k.d.AdvertisedURLs(), PeerURLs: k.d.Config.AdvertisePeerURLs,
	})
	etcdapi.RegisterMaintenance(r, k.Header, k.Store, k.Alarms, k.quota(), k.snapshot)
	etcdapi.RegisterAuth(r, k.Header, k.guard)
	// An idle keyspace must not pay for a connection that is rarely needed.
	local := &localClient{guard: k.guard, register: k.registerCore}
	k.OnClose(local.close)
	k.services.later(
		etcdapi.LockService(),
		local.with(func(r grpc.ServiceRegistrar, c *loopback.Client) { etcdapi.RegisterLock(r, c.Client()) }),
	)
	k.services.later(
		etcdapi.ElectionService(),
		local.with(func(r grpc.ServiceRegistrar, c *loopback.Client) { etcdapi.RegisterElection(r, c.Client()) }),
	)
	return nil
}

// localClient is the client of this process's own services that Lock and Election use. Their first call makes it.
type localClient struct {
	guard    *etcdapi.Guard
	register func(grpc.ServiceRegistrar)

	mu     sync.Mutex
	client *loopback.Client
	closed bool
}

// with returns a function that registers a service on the client.
func (c *localClient) with(register func(grpc.ServiceRegistrar, *loopback.Client)) func(grpc.ServiceRegistrar) error {
	return func(r grpc.ServiceRegistrar) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			return errClosing
		}
		if c.client == nil {
			client, err := loopback.New(c.register)
			if err != nil {
				return etcdapi.Err(err)
			}
			c.client = client
		}
		register(c.guard.Registrar(r), c.client)
		return nil
	}
}

func (c *localClient) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.client == nil {
		return nil
	}
	return c.client.Close()
}

// compactorPart compacts automatically where one process does everything. (The store removes what has been compacted.)
// All keyspaces but the first share one compactor, whether they are open or not.
func compactorPart(k *Keyspace) part {
	if k.ofTable {
		c := &k.d.all.own
		return part{
			open: func(context.Context) error { k.OnClose(func() error { c.note(k); return nil }); return nil },
			busy: func() bool { return k.Store.Removing() },
		}
	}
	return part{open: func(context.Context) error {
		planner, err := k.planner()
		if err == nil && planner != nil {
			k.Go("compactor", func(ctx context.Context) error {
				select {
				case <-k.Store.FollowEnded(): // a keyspace that follows takes no compaction
					compactor.Run(ctx, k.d.Log, planner, k.Store, mvcc.ErrCompacted)
				case <-ctx.Done():
				}
				return nil
			})
		}
		return err
	}}
}

// electedCompactorPart campaigns for the place of the compactor.
func electedCompactorPart(k *Keyspace) part {
	if k.ofTable {
		return part{}
	}
	return part{open: func(context.Context) error {
		// Each term gets a new planner, because it notes heads over time.
		if _, err := k.planner(); err != nil {
			return err
		}
		return k.campaign("compactor", compactorTTL, compactorRenew, k.compact)
	}}
}

// planner decides when to compact, and up to which revision; nil: never.
func (k *Keyspace) planner() (compactor.Planner, error) {
	return compactor.Parse(k.d.Config.AutoCompactionMode, k.d.Config.AutoCompactionRetention)
}

// compact is the compactor until its term ends.
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
		_ = keyspace.Tend(ctx, d.Engine, []byte(d.Config.FDBRoot), d.cleared, func(err error) {
			d.Log.Warn("deleted keyspaces could not be cleared, will be tried again", "error", err)
		})
	})
	k.Store.RemoveCompacted(ctx)
	return nil
}
