package shards_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/lease/shards"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// TestBadDays is the property test: clients hold leases through any pod while pods are killed, paused, drained and
// added, on a store with faults and delays. What the clients were told is held against when their leases' keys
// vanished. At no moment do two pods answer for one shard, and in the end everybody is answered by somebody.
func TestBadDays(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rounds, lasts := uint64(2), 90*time.Second
	if testengine.Chosen() == testengine.FoundationDB { // tens of thousands of round trips a minute, one by one
		rounds, lasts = 1, 30*time.Second
	}
	for round := range rounds {
		synctest.Test(t, func(t *testing.T) { badDay(t, seed, round, lasts) })
	}
}

// dice is a random source for many goroutines.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) n(n int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Int64N(n)
}

func (d *dice) time(limit time.Duration) time.Duration { return time.Duration(d.n(int64(limit))) }

type day struct {
	t *testing.T
	*cluster
	dice

	mu    sync.Mutex
	alive []*pod
	next  int // number of the next pod

	renewals, gone, faults atomic.Int64
}

func badDay(t *testing.T, seed, round uint64, lasts time.Duration) {
	d := &day{t: t, dice: dice{r: rand.New(rand.NewPCG(seed, round))}}
	d.cluster = newCluster(t, faults.Options{
		Seed: seed + round, Conflict: .02, UnknownLost: .01, UnknownCommitted: .01, TooOld: .005, Unavailable: .005,
		// Each call takes a while: what happens at different times can be told apart.
		Delay: func(context.Context, faults.Op) { time.Sleep(time.Millisecond + d.time(3*time.Millisecond)) },
	})
	d.add()
	d.add()
	end := time.Now().Add(lasts)
	ctx, cancel := context.WithCancel(t.Context())
	var clients, watchers sync.WaitGroup
	for id := int64(1); id <= 32; id++ {
		clients.Go(func() {
			for time.Now().Before(end) {
				d.oneLease(id)
			}
		})
	}
	watchers.Go(func() { d.watchOwners(ctx) })
	for time.Now().Before(end) {
		time.Sleep(d.dice.time(8 * time.Second))
		d.misfortune()
	}
	clients.Wait()
	// A pod that was paused may still be counted on by the others.
	await(t, "shards spread in the end", time.Minute, func() bool { return placed(d.living()...) })
	for _, p := range d.living() {
		p.eng.Pause(true)
	}
	for _, p := range d.living() {
		for id := int64(1); id <= 32; id++ {
			if _, err := p.keepAlive(t.Context(), id); err != nil {
				t.Errorf("%s: renewal of %d in the end: %v", p.addr, id, err)
			}
		}
	}
	cancel()
	watchers.Wait()
	t.Logf("%d pods, %d misfortunes, %d renewals, %d leases", d.next, d.faults.Load(), d.renewals.Load(), d.gone.Load())
}

func (d *day) living() []*pod {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*pod(nil), d.alive...)
}

func (d *day) add() {
	d.next++
	p := d.start(fmt.Sprintf("pod-%d:1", d.next))
	d.mu.Lock()
	d.alive = append(d.alive, p)
	d.mu.Unlock()
}

// misfortune does something to a pod. Only its goroutine changes who is alive.
func (d *day) misfortune() {
	alive := d.living()
	i := int(d.n(int64(len(alive))))
	p := alive[i]
	take := func() {
		d.mu.Lock()
		d.alive = append(append([]*pod(nil), alive[:i]...), alive[i+1:]...)
		d.mu.Unlock()
	}
	d.faults.Add(1)
	switch kind := d.n(5); {
	case len(alive) == 1, kind == 0 && len(alive) < 4:
		d.add()
	case kind == 1:
		take()
		p.kill()
	case kind == 2:
		ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
		defer cancel()
		_ = p.shards.Drain(ctx) // it may end before all is handed over, as a pod's grace period may
		take()
		p.stop()
	case kind == 3:
		p.gate.shut()
		time.Sleep(d.dice.time(3 * shards.DefaultTTL))
		p.gate.reopen()
	default: // the store is out of reach for one
		inner := p.eng.Crash()
		time.Sleep(d.dice.time(2 * shards.DefaultTTL))
		p.eng.Restart(inner)
	}
}

// any returns a pod to talk to.
func (d *day) any() *pod {
	alive := d.living()
	return alive[d.n(int64(len(alive)))]
}

// has reports whether the key of a lease is there.
func (d *day) has(id int64) bool {
	found := false
	for {
		_, err := d.admin.Range(d.t.Context(), &mvcc.RangeRequest{Key: key(id)}, func(*mvcc.KV) error {
			found = true
			return nil
		})
		if err == nil {
			return found
		}
	}
}

func key(id int64) []byte { return fmt.Append(nil, "lease/", id) }

// oneLease grants a lease, attaches a key, renews it for a while, and revokes it or lets it expire.
func (d *day) oneLease(id int64) {
	ctx := d.t.Context()
	call := func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 10*time.Second) }
	asked := time.Now()
	c, cancel := call()
	g, err := d.any().client.LeaseGrant(c, &pb.LeaseGrantRequest{ID: id, TTL: 6 + d.n(6)})
	cancel()
	if err != nil { // also: still there from an unknown outcome
		time.Sleep(d.dice.time(2 * time.Second))
		return
	}
	ttl := time.Duration(g.TTL) * time.Second
	promise := asked.Add(ttl)
	if _, err := d.admin.Put(ctx, &mvcc.PutRequest{Key: key(id), Lease: id}); err != nil {
		if time.Now().Before(promise) {
			d.t.Errorf("lease %d: put before its time: %v", id, err)
		}
		return
	}
	for d.n(12) > 0 {
		time.Sleep(d.dice.time(ttl / 2))
		asked := time.Now()
		c, cancel := call()
		got, err := d.any().keepAlive(c, id)
		cancel()
		told := time.Now()
		switch there := d.has(id); {
		case !there && time.Now().Before(promise):
			d.t.Errorf("lease %d: gone %v before its time", id, time.Until(promise))
			return
		case err != nil:
			time.Sleep(d.dice.time(100 * time.Millisecond))
		case got == 0:
			// The renewal may have been on its way, or have waited for an owner, until the lease had expired.
			if told.Before(promise) {
				d.t.Errorf("lease %d: told that it is gone, %v before its time", id, promise.Sub(told))
			}
			if there {
				d.t.Errorf("lease %d: told that it is gone, but its key is there", id)
			}
			d.gone.Add(1)
			return
		default:
			d.renewals.Add(1)
			promise = asked.Add(ttl)
		}
	}
	if d.n(2) == 0 {
		c, cancel := call()
		_, err := d.any().client.LeaseRevoke(c, &pb.LeaseRevokeRequest{ID: id})
		cancel()
		if err == nil && d.has(id) {
			d.t.Errorf("lease %d: revoked, but its key is there", id)
		}
		if rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound) && time.Now().Before(promise) {
			d.t.Errorf("lease %d: not there before its time", id)
		}
		if err == nil {
			d.gone.Add(1)
			return
		}
		promise = time.Now() // it may have happened
	}
	for d.has(id) {
		time.Sleep(50 * time.Millisecond)
	}
	if time.Now().Before(promise) {
		d.t.Errorf("lease %d: ended %v before its time", id, time.Until(promise))
	}
	d.gone.Add(1)
}

// watchOwners asks every pod about leases that never were, one per shard: only a shard's owner has an answer.
func (d *day) watchOwners(ctx context.Context) {
	var probes [shards.Count]int64
	for id, left := int64(1<<40), shards.Count; left > 0; id++ {
		if shard := shards.Of(id); probes[shard] == 0 {
			probes[shard] = id
			left--
		}
	}
	for ctx.Err() == nil {
		alive := d.living()
		for shard, id := range probes {
			owners := 0
			for _, p := range alive {
				if _, ok := p.shards.TryRenew(id); ok {
					owners++
				}
			}
			if owners > 1 {
				d.t.Errorf("shard %d: %d pods answer", shard, owners)
			}
		}
		time.Sleep(3 * time.Millisecond)
	}
}
