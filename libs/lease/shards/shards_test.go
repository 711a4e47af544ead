package shards_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/lease/shards"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// bubble runs f in a synctest bubble with a cluster without faults.
func bubble(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newCluster(t, faults.Options{})) })
}

// TestForwarding: every pod answers for every lease.
func TestForwarding(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		pods := []*pod{c.start("a:1"), c.start("b:1"), c.start("c:1")}
		spread(t, pods...)
		for _, p := range pods {
			<-p.shards.Ready()
		}
		var ids []int64
		for i := range 48 {
			p := pods[i%3]
			id := int64(0)
			if i%2 == 0 {
				id = int64(1000 + i)
			}
			g, err := p.client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 60})
			if err != nil || g.TTL != 60 || id != 0 && g.ID != id {
				t.Fatalf("grant: %v, %v", g, err)
			}
			ids = append(ids, g.ID)
		}
		slices.Sort(ids)
		for _, p := range pods {
			stream, err := p.client.LeaseKeepAlive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			var got []int64
			for range ids {
				r, err := stream.Recv()
				if err != nil || r.TTL != 60 {
					t.Fatalf("renewal: %v, %v", r, err)
				}
				got = append(got, r.ID)
			}
			slices.Sort(got)
			if !slices.Equal(got, ids) {
				t.Errorf("renewed %v", got)
			}
			if err := stream.CloseSend(); err != nil {
				t.Error(err)
			}
			_, err = p.client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: ids[0], TTL: 5})
			if rpctypes.ErrorDesc(err) != rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseExist) {
				t.Errorf("granted twice: %v", err)
			}
			list, err := p.client.LeaseLeases(t.Context(), &pb.LeaseLeasesRequest{})
			if err != nil || len(list.Leases) != len(ids) {
				t.Errorf("%d leases listed, %v", len(list.GetLeases()), err)
			}
			for _, id := range ids {
				r, err := p.client.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
				if err != nil || r.GrantedTTL != 60 || r.TTL < 55 || r.Header.Revision == 0 {
					t.Errorf("time to live: %v, %v", r, err)
				}
			}
			r, err := p.client.LeaseTimeToLive(t.Context(), &pb.LeaseTimeToLiveRequest{ID: 5})
			if err != nil || r.TTL != -1 {
				t.Errorf("time to live of none: %v, %v", r, err)
			}
			if ttl, err := p.keepAlive(t.Context(), 5); ttl != 0 || err != nil {
				t.Errorf("renewal of none: %d, %v", ttl, err)
			}
		}
		checkMetrics(t, pods[0])
		for i, id := range ids {
			if _, err := pods[i%3].client.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: id}); err != nil {
				t.Error(err)
			}
			_, err := pods[(i+1)%3].client.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: id})
			if rpctypes.ErrorDesc(err) != rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaseNotFound) {
				t.Errorf("revoked twice: %v", err)
			}
			if ttl, err := pods[(i+2)%3].keepAlive(t.Context(), id); ttl != 0 || err != nil {
				t.Errorf("renewal after the revoke: %d, %v", ttl, err)
			}
		}
	})
}

// checkMetrics looks at a pod that has forwarded requests and keeps some of 48 leases.
func checkMetrics(t *testing.T, p *pod) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p.shards)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
	}
	if n := got["headwater_lease_shards_owned"]; n != float64(len(p.shards.Owned())) {
		t.Errorf("%v shards owned", n)
	}
	if n := got["headwater_lease_active"]; n < 1 || n > 47 {
		t.Errorf("%v leases", n)
	}
	if got["headwater_lease_forwarded_total"] == 0 || got["headwater_lease_misrouted_total"] != 0 {
		t.Errorf("%v", got)
	}
}

// TestMarked: what was forwarded once is not forwarded again.
func TestMarked(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a, b := c.start("a:1"), c.start("b:1")
		spread(t, a, b)
		var id int64 = 1
		for slices.Contains(a.shards.Owned(), shards.Of(id)) {
			id++
		}
		marked := metadata.AppendToOutgoingContext(t.Context(), lease.ForwardedKey, "1")
		_, err := a.client.LeaseGrant(marked, &pb.LeaseGrantRequest{ID: id, TTL: 60})
		if rpctypes.ErrorDesc(err) != rpctypes.ErrorDesc(rpctypes.ErrGRPCLeaderChanged) {
			t.Errorf("grant: %v", err)
		}
		if ttl, err := a.keepAlive(marked, id); ttl != lease.NotOwnedTTL || err != nil {
			t.Errorf("renewal: %d, %v", ttl, err)
		}
		if _, err := b.client.LeaseGrant(marked, &pb.LeaseGrantRequest{ID: id, TTL: 60}); err != nil {
			t.Errorf("grant at the owner: %v", err)
		}
		if ttl, err := b.keepAlive(marked, id); ttl != 60 || err != nil {
			t.Errorf("renewal at the owner: %d, %v", ttl, err)
		}
	})
}

// renewing keeps leases alive through p, each every half second, and reports the longest time that any had to wait.
func renewing(t *testing.T, p *pod, ids []int64) (stop func() (longest time.Duration)) {
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan time.Duration, len(ids))
	for _, id := range ids {
		go func() {
			var longest time.Duration
			asked := time.Now()
			for ctx.Err() == nil {
				ttl, err := p.keepAlive(ctx, id)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					time.Sleep(time.Millisecond)
					continue
				case ttl == 0:
					t.Errorf("lease %d is gone", id)
				}
				longest = max(longest, time.Since(asked))
				time.Sleep(500 * time.Millisecond)
				asked = time.Now()
			}
			results <- longest
		}()
	}
	return func() (longest time.Duration) {
		cancel()
		for range ids {
			longest = max(longest, <-results)
		}
		return longest
	}
}

func grantMany(t *testing.T, p *pod, n int) (ids []int64) {
	t.Helper()
	for i := range n {
		id := int64(i + 1)
		if _, err := p.client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 5}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// takeoverMax bounds the time from a pod's death until another has its shards.
const takeoverMax = 2 * time.Second

// TestKill: the shards of a pod that is killed are taken over in time, whenever it is killed, and its leases go on.
func TestKill(t *testing.T) {
	const moments = 4
	for i := range moments {
		bubble(t, func(t *testing.T, c *cluster) {
			a, b := c.start("a:1"), c.start("b:1")
			spread(t, a, b)
			stop := renewing(t, a, grantMany(t, a, 32))
			time.Sleep(3*time.Second + time.Duration(i)*shards.DefaultTTL/4/moments)
			begun := time.Now()
			taken := make(chan time.Duration)
			go func() {
				await(t, "takeover", 10*time.Second, func() bool { return placed(a) })
				taken <- time.Since(begun)
			}()
			b.kill()
			d := <-taken
			time.Sleep(3 * time.Second)
			longest := stop()
			t.Logf("takeover in %v, a renewal waited %v", d, longest)
			if d > takeoverMax || longest > takeoverMax+shards.DefaultTTL/8 {
				t.Errorf("takeover in %v, a renewal waited %v; want at most %v", d, longest, takeoverMax)
			}
		})
	}
}

// TestIdle: pods that have nothing to do ask the store for one transaction a beat each, however many shards they have.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, faults.Options{Remote: &faults.Remote{}})
		a, b := c.start("a:1"), c.start("b:1")
		spread(t, a, b)
		time.Sleep(10 * time.Second)
		const beats = 100
		for _, p := range []*pod{a, b} {
			before := p.eng.Trips()
			time.Sleep(beats * shards.DefaultTTL / 4)
			trips := p.eng.Trips().Since(before)
			t.Logf("%s: %v in %v", p.addr, trips, beats*shards.DefaultTTL/4)
			for kind, n := range trips {
				if n > beats+5 {
					t.Errorf("%s: %d round trips of the kind %v in %d beats", p.addr, n, faults.Trip(kind), beats)
				}
			}
		}
	})
}

// TestStepsGoOn: a lease whose keys do not fit in a transaction ends although the pod dies that is ending it.
func TestStepsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Values that the log copies: few keys are too many.
		slow := faults.Options{Delay: func(_ context.Context, op faults.Op) {
			if op == faults.Commit {
				time.Sleep(200 * time.Millisecond) // far more than a look at the store
			}
		}}
		c := newClusterWith(t, slow, mvcc.FeatureSizes|mvcc.FeatureLeaseSteps)
		a, b := c.start("a:1"), c.start("b:1")
		spread(t, a, b)
		id := int64(1)
		for !slices.Contains(b.shards.Owned(), shards.Of(id)) {
			id++
		}
		if _, err := a.client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 600}); err != nil {
			t.Fatal(err)
		}
		const keys = 300
		value := make([]byte, 95_000)
		for i := range keys {
			key := fmt.Appendf(nil, "%03d", i)
			_, err := c.admin.Put(t.Context(), &mvcc.PutRequest{Key: key, Value: value, Lease: id})
			if err != nil {
				t.Fatal(err)
			}
		}
		left := func() int64 {
			all := &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, CountOnly: true}
			r, err := c.admin.Range(t.Context(), all, nil)
			if err != nil {
				t.Fatal(err)
			}
			return r.Count
		}
		revoked := make(chan error, 1)
		go func() {
			_, err := a.client.LeaseRevoke(t.Context(), &pb.LeaseRevokeRequest{ID: id})
			revoked <- err
		}()
		await(t, "a step", 10*time.Second, func() bool { return left() < keys })
		b.eng.Crash()
		time.Sleep(500 * time.Millisecond)
		if n := left(); n == 0 {
			t.Error("it ended without its keeper")
		}
		b.kill()
		// It may go on with the next keeper, if the last one has said that it is none any more.
		if err := <-revoked; err == nil && left() != 0 {
			t.Error("the revoke was answered before the last step")
		}
		await(t, "a takeover", 10*time.Second, func() bool { return placed(a) })
		if ttl, err := a.keepAlive(t.Context(), id); err != nil || ttl != 0 {
			t.Errorf("a renewal: %d, %v", ttl, err)
		}
		await(t, "the end", 10*time.Second, func() bool { return left() == 0 })
		await(t, "a free id", 10*time.Second, func() bool {
			_, err := a.client.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: id, TTL: 600})
			return err == nil
		})
	})
}

// TestJoinAndDrain: shards move to a pod that joins and from one that leaves, and hardly anybody has to wait.
func TestJoinAndDrain(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a := c.start("a:1")
		await(t, "all shards taken", 10*time.Second, func() bool { return placed(a) })
		stop := renewing(t, a, grantMany(t, a, 32))
		b := c.start("b:1")
		spread(t, a, b)
		time.Sleep(5 * time.Second)
		if err := b.shards.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := len(b.shards.Owned()); n != 0 {
			t.Errorf("%d shards left after the drain", n)
		}
		await(t, "all shards back", time.Second, func() bool { return placed(a) })
		if ttl, err := b.keepAlive(t.Context(), 1); err != nil || ttl != 5 {
			t.Errorf("a drained pod does not forward: %d, %v", ttl, err)
		}
		b.stop()
		time.Sleep(5 * time.Second)
		longest := stop()
		t.Logf("a renewal waited %v", longest)
		if longest > shards.DefaultTTL/4 {
			t.Errorf("a renewal waited %v", longest)
		}
		if err := a.shards.Drain(t.Context()); err != nil { // nobody to give them to
			t.Fatal(err)
		}
		if !placed(a) {
			t.Error("the last pod gave up its shards")
		}
	})
}

// TestPodWithoutShards: a pod that every shard prefers less than another has none, and forwards all that it is asked.
func TestPodWithoutShards(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		pods := []*pod{c.start("pod-1:1"), c.start("pod-3:1"), c.start("pod-4:1")}
		spread(t, pods...)
		if owned := pods[0].shards.Owned(); len(owned) != 0 {
			t.Fatalf("shards %v: another set of pods is needed here", owned)
		}
		stop := renewing(t, pods[0], grantMany(t, pods[0], 32))
		time.Sleep(5 * time.Second)
		if longest := stop(); longest > shards.DefaultTTL/4 {
			t.Errorf("a renewal waited %v", longest)
		}
	})
}

// TestPause: a pod that is paused loses its shards and takes nothing back when it goes on; its clients are answered.
func TestPause(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a, b := c.start("a:1"), c.start("b:1")
		spread(t, a, b)
		stop := renewing(t, a, grantMany(t, a, 32))
		for range 3 {
			b.gate.shut()
			await(t, "takeover", 10*time.Second, func() bool { return len(a.shards.Owned()) == shards.Count })
			b.gate.reopen()
			spread(t, a, b)
			time.Sleep(3 * time.Second)
		}
		if longest := stop(); longest > shards.DefaultTTL+shards.DefaultTTL/2 {
			t.Errorf("a renewal waited %v", longest)
		}
	})
}

// TestNobody: requests wait a while for an owner, and are then told to try again.
func TestNobody(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		a := c.start("a:1")
		<-a.shards.Ready()
		b := c.start("b:1")
		spread(t, a, b)
		inner := a.eng.Crash() // the store is out of reach for both
		b.eng.Crash()
		time.Sleep(5 * time.Second)
		start := time.Now()
		_, err := a.shards.Renew(t.Context(), 1)
		if d := time.Since(start); err == nil || d > 10*time.Second || d < time.Second {
			t.Errorf("after %v: %v", d, err)
		}
		a.eng.Restart(inner)
		b.eng.Restart(inner)
		await(t, "owners", 20*time.Second, func() bool { return placed(a, b) })
		if ttl, err := a.keepAlive(t.Context(), 1); ttl != 0 || err != nil {
			t.Errorf("renewal of none: %d, %v", ttl, err)
		}
	})
}

func TestOptions(t *testing.T) {
	c := &cluster{}
	for _, o := range []shards.Options{{}, {Self: "a"}, {Dial: c.dial}, {Self: "a", Dial: c.dial, TTL: 1}} {
		if _, err := shards.New(nil, nil, nil, o); err == nil {
			t.Errorf("%+v accepted", o)
		}
	}
}
