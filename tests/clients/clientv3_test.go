package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// TestLeasing: a leasing client caches a key, and learns of it when another client writes that key.
func TestLeasing(t *testing.T) {
	s, ctx := start(t), timeout(t)
	first, closeFirst, err := leasing.NewKV(client(t, s), "/leases/")
	if err != nil {
		t.Fatal(err)
	}
	defer closeFirst()
	second, closeSecond, err := leasing.NewKV(client(t, s), "/leases/")
	if err != nil {
		t.Fatal(err)
	}
	defer closeSecond()
	for i := range 10 {
		want := fmt.Sprint(i)
		if _, err := first.Put(ctx, "k", want); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second read is served from the cache
			res, err := second.Get(ctx, "k")
			if err != nil || string(res.Kvs[0].Value) != want {
				t.Fatalf("got %v, %v; want %s", res, err, want)
			}
		}
	}
	if _, err := second.Delete(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	if res, err := first.Get(ctx, "k"); err != nil || res.Count != 0 {
		t.Fatalf("after delete: %v, %v", res, err)
	}
}

// TestMirror: the syncer's base and its updates together make a copy of the store.
func TestMirror(t *testing.T) {
	c := client(t, start(t))
	ctx, cancel := context.WithCancel(timeout(t))
	defer cancel()
	for i := range 20 {
		if _, err := c.Put(ctx, fmt.Sprintf("/m/%02d", i), "base"); err != nil {
			t.Fatal(err)
		}
	}
	syncer := mirror.NewSyncer(c, "/m/", 0)
	copied := map[string]string{}
	base, errs := syncer.SyncBase(ctx)
	for r := range base {
		for _, kv := range r.Kvs {
			copied[string(kv.Key)] = string(kv.Value)
		}
	}
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	updates := syncer.SyncUpdates(ctx)
	for i := range 20 {
		key := fmt.Sprintf("/m/%02d", i)
		var err error
		if i%3 == 0 {
			_, err = c.Delete(ctx, key)
		} else {
			_, err = c.Txn(ctx).Then(clientv3.OpPut(key, "new"), clientv3.OpPut(key+"/x", "new")).Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	end, err := c.Put(ctx, "/m/end", "")
	if err != nil {
		t.Fatal(err)
	}
	for r := range updates {
		for _, ev := range r.Events {
			copied[string(ev.Kv.Key)] = string(ev.Kv.Value)
			if ev.Type == clientv3.EventTypeDelete {
				delete(copied, string(ev.Kv.Key))
			}
		}
		if r.Events[len(r.Events)-1].Kv.ModRevision == end.Header.Revision {
			break
		}
	}
	res, err := c.Get(ctx, "/m/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if len(copied) != len(res.Kvs) {
		t.Errorf("%d keys copied of %d", len(copied), len(res.Kvs))
	}
	for _, kv := range res.Kvs {
		if copied[string(kv.Key)] != string(kv.Value) {
			t.Errorf("%s is %q in the copy, %q in the store", kv.Key, copied[string(kv.Key)], kv.Value)
		}
	}
}

// TestNamespace: a namespaced client uses keys, watches and leases under a prefix.
func TestNamespace(t *testing.T) {
	c, ctx := client(t, start(t)), timeout(t)
	kv, watcher, lease := namespace.NewKV(c.KV, "ns/"), namespace.NewWatcher(c.Watcher, "ns/"),
		namespace.NewLease(c.Lease, "ns/")
	events := watcher.Watch(ctx, "", clientv3.WithFromKey(), clientv3.WithCreatedNotify())
	<-events
	grant, err := lease.Grant(ctx, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "outside", "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(ctx, "a", "1", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	if r := <-events; string(r.Events[0].Kv.Key) != "a" {
		t.Errorf("event for %q", r.Events[0].Kv.Key)
	}
	if res, err := kv.Get(ctx, "", clientv3.WithFromKey()); err != nil || res.Count != 1 ||
		string(res.Kvs[0].Key) != "a" {
		t.Errorf("inside: %v, %v", res, err)
	}
	if res, err := c.Get(ctx, "ns/a"); err != nil || res.Count != 1 {
		t.Errorf("outside: %v, %v", res, err)
	}
	if res, err := lease.TimeToLive(ctx, grant.ID, clientv3.WithAttachedKeys()); err != nil || len(res.Keys) != 1 ||
		string(res.Keys[0]) != "a" {
		t.Errorf("lease: %v, %v", res, err)
	}
	txn, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).Then(clientv3.OpDelete("",
		clientv3.WithFromKey())).Commit()
	if err != nil || !txn.Succeeded || txn.Responses[0].GetResponseDeleteRange().Deleted != 1 {
		t.Errorf("txn: %v, %v", txn, err)
	}
}

// TestOrdering: no answer is older than one before it, so the client never calls the violation function.
func TestOrdering(t *testing.T) {
	c, ctx := client(t, start(t)), timeout(t)
	kv := ordering.NewKV(c.KV, func(clientv3.Op, clientv3.OpResponse, int64) error {
		return errors.New("order violated")
	})
	for i := range 50 {
		if _, err := kv.Put(ctx, "k", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		res, err := kv.Get(ctx, "k", clientv3.WithSerializable())
		if err != nil {
			t.Fatal(err)
		}
		if *sutName == "pods" {
			continue // pods may answer a serializable read from an older state, as an etcd with several members may
		}
		if string(res.Kvs[0].Value) != fmt.Sprint(i) {
			t.Fatalf("serializable read of the only member is stale: %s", res.Kvs[0].Value)
		}
	}
}

// TestEndpointsManager: clientv3's endpoint manager, which names gRPC endpoints by keys and watches them.
func TestEndpointsManager(t *testing.T) {
	c, ctx := client(t, start(t)), timeout(t)
	m, err := endpoints.NewManager(c, "svc")
	if err != nil {
		t.Fatal(err)
	}
	updates, err := m.NewWatchChannel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddEndpoint(ctx, "svc/1", endpoints.Endpoint{Addr: "10.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if u := <-updates; len(u) != 1 || u[0].Op != endpoints.Add || u[0].Endpoint.Addr != "10.0.0.1" {
		t.Errorf("update: %v", u)
	}
	if err := m.DeleteEndpoint(ctx, "svc/1"); err != nil {
		t.Fatal(err)
	}
	if u := <-updates; len(u) != 1 || u[0].Op != endpoints.Delete {
		t.Errorf("update: %v", u)
	}
}

// TestKubernetesInterface: the calls of kube-apiserver work, and the pages of a list hold each key once.
func TestKubernetesInterface(t *testing.T) {
	s, ctx := start(t), timeout(t)
	c, err := kubernetes.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := c.Kubernetes
	const pods = 25
	for i := range pods {
		key := fmt.Sprintf("/registry/pods/%02d", i)
		if r, err := k.OptimisticPut(ctx, key, []byte("v1"), 0, kubernetes.PutOptions{}); err != nil || !r.Succeeded {
			t.Fatalf("create %s: %v, %v", key, r, err)
		}
	}
	if r, err := k.OptimisticPut(ctx, "/registry/pods/00", []byte("v2"), 0,
		kubernetes.PutOptions{GetOnFailure: true}); err != nil || r.Succeeded || string(r.KV.Value) != "v1" {
		t.Errorf("create of an existing key: %v, %v", r, err)
	}
	got, err := k.Get(ctx, "/registry/pods/00", kubernetes.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	update, err := k.OptimisticPut(ctx, "/registry/pods/00", []byte("v2"), got.KV.ModRevision, kubernetes.PutOptions{})
	if err != nil || !update.Succeeded {
		t.Fatalf("update: %v, %v", update, err)
	}
	if r, err := k.OptimisticDelete(ctx, "/registry/pods/00", got.KV.ModRevision,
		kubernetes.DeleteOptions{GetOnFailure: true}); err != nil || r.Succeeded || string(r.KV.Value) != "v2" {
		t.Errorf("delete of an old revision: %v, %v", r, err)
	}
	var keys []string
	list, err := k.List(ctx, "/registry/pods/", kubernetes.ListOptions{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	rev := list.Revision
	if r, err := k.OptimisticDelete(ctx, "/registry/pods/15", 17, kubernetes.DeleteOptions{}); err != nil ||
		!r.Succeeded {
		t.Fatalf("delete: %v, %v", r, err)
	}
	for left := int64(pods); ; {
		if list.Count != left || list.Revision < rev {
			t.Fatalf("page of %d at %d: count %d, revision %d", len(list.Kvs), rev, list.Count, list.Revision)
		}
		for _, kv := range list.Kvs {
			keys = append(keys, string(kv.Key))
		}
		if left -= int64(len(list.Kvs)); left == 0 {
			break
		}
		if list, err = k.List(ctx, "/registry/pods/",
			kubernetes.ListOptions{Limit: 10, Revision: rev, Continue: keys[len(keys)-1] + "\x00"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != pods || !slices.IsSorted(keys) {
		t.Errorf("pages gave %d keys: %v", len(keys), keys)
	}
	if n, err := k.Count(ctx, "/registry/pods/", kubernetes.CountOptions{}); err != nil || n != pods-1 {
		t.Errorf("count %d, %v", n, err)
	}
	if r, err := k.Get(ctx, "/registry/pods/00", kubernetes.GetOptions{Revision: 3}); err != nil ||
		string(r.KV.Value) != "v1" {
		t.Errorf("old get: %v, %v", r, err)
	}
}

// TestWatchResumes: after the server was killed and restarted, watches of clientv3 go on without gaps or repeats.
func TestWatchResumes(t *testing.T) {
	s := start(t)
	c, ctx := client(t, s), timeout(t)
	events := c.Watch(clientv3.WithRequireLeader(ctx), "k", clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithCreatedNotify())
	<-events
	const perRound = 20
	next := int64(2)
	for round := range 3 {
		for i := range perRound {
			if _, err := c.Put(ctx, fmt.Sprintf("k%d", i), fmt.Sprint(round)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		for next < int64(2+(round+1)*perRound) {
			r := <-events
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			for _, ev := range r.Events {
				if ev.Kv.ModRevision != next {
					t.Fatalf("event %d, want %d", ev.Kv.ModRevision, next)
				}
				if (ev.PrevKv != nil) != (round > 0) {
					t.Fatalf("event %v in round %d", ev, round)
				}
				next++
			}
		}
	}
}

// TestProgressNotify: the server tells an idle watch its revision, at intervals and on request. The revision is never
// ahead of the events that the watch has received.
func TestProgressNotify(t *testing.T) {
	c := client(t, start(t, "--watch-progress-notify-interval=200ms"))
	ctx := timeout(t)
	events := c.Watch(ctx, "k", clientv3.WithProgressNotify())
	for i := range int64(3) {
		put, err := c.Put(ctx, "other", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		for r := range events {
			if !r.IsProgressNotify() {
				t.Fatalf("not a progress notification: %v", r)
			}
			if r.Header.Revision > put.Header.Revision {
				t.Fatalf("progress %d is ahead of the store %d", r.Header.Revision, put.Header.Revision)
			}
			if r.Header.Revision == put.Header.Revision {
				break
			}
		}
	}
	if err := c.RequestProgress(ctx); err != nil {
		t.Fatal(err)
	}
	if r := <-events; !r.IsProgressNotify() {
		t.Errorf("answer to the request: %v", r)
	}
}

// TestClientErrors: errors arrive as the typed errors of clientv3.
func TestClientErrors(t *testing.T) {
	c, ctx := client(t, start(t)), timeout(t)
	if _, err := c.Put(ctx, "", ""); !errors.Is(err, rpctypes.ErrEmptyKey) {
		t.Errorf("empty key: %v", err)
	}
	if _, err := c.Put(ctx, "a", "", clientv3.WithLease(99)); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("unknown lease: %v", err)
	}
	if _, err := c.Get(ctx, "a", clientv3.WithRev(99)); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("future revision: %v", err)
	}
	for range 3 {
		if _, err := c.Put(ctx, "a", "x"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Compact(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "a", clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("compacted: %v", err)
	}
	for r := range c.Watch(ctx, "a", clientv3.WithRev(2)) {
		if !errors.Is(r.Err(), rpctypes.ErrCompacted) || r.CompactRevision != 3 {
			t.Errorf("watch of compacted history: %v", r)
		}
	}
	if _, err := c.Put(ctx, "a", strings.Repeat("x", 1600<<10)); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Errorf("large request: %v", err)
	}
}

// TestRejectOldCluster: the client accepts the server's version, and gets its endpoint list from MemberList.
func TestRejectOldCluster(t *testing.T) {
	s, ctx := start(t), timeout(t)
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.URL()}, RejectOldCluster: true, Context: ctx, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if got := c.Endpoints(); len(got) != 1 || got[0] != s.URL() {
		t.Errorf("endpoints %v, want %s", got, s.URL())
	}
}

// TestLongList: a long list through clientv3's RangeStream equals the plain one.
func TestLongList(t *testing.T) {
	const keys = 3000
	c, ctx := client(t, start(t)), timeout(t)
	value := strings.Repeat("v", 300)
	for i := 0; i < keys; i += 100 {
		var ops []clientv3.Op
		for j := i; j < i+100; j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("l/%05d", j), value))
		}
		if _, err := c.Txn(ctx).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	plain, err := c.Get(ctx, "l/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := c.GetStream(ctx, "l/", clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	streamed, err := clientv3.GetStreamToGetResponse(stream)
	if err != nil {
		t.Fatal(err)
	}
	if plain.Count != keys || streamed.Count != keys {
		t.Fatalf("counts %d and %d", plain.Count, streamed.Count)
	}
	equal := func(a, b *mvccpb.KeyValue) bool {
		return string(a.Key) == string(b.Key) && string(a.Value) == string(b.Value) && a.ModRevision == b.ModRevision
	}
	if !slices.EqualFunc(plain.Kvs, streamed.Kvs, equal) {
		t.Error("the streamed list differs")
	}
}

// TestLeasesSurviveRestart: leases survive a clean stop and a crash.
func TestLeasesSurviveRestart(t *testing.T) {
	s := start(t)
	c, ctx := client(t, s), timeout(t)
	granted := time.Now()
	grant, err := c.Grant(ctx, 300)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "k", "v", clientv3.WithLease(grant.ID)); err != nil {
		t.Fatal(err)
	}
	for _, end := range []func(*hw.Server) error{(*hw.Server).Stop, (*hw.Server).Kill} {
		if err := end(s.Server); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		ttl, err := c.TimeToLive(ctx, grant.ID, clientv3.WithAttachedKeys())
		// The TTL has shrunk by no more than the time that has passed. A restart may extend it again.
		left := 300 - int64(time.Since(granted)/time.Second) - 1
		if err != nil || ttl.GrantedTTL != 300 || ttl.TTL < left || len(ttl.Keys) != 1 {
			t.Errorf("after a restart: %v, %v, want at least %d s left", ttl, err, left)
		}
	}
	if _, err := c.Revoke(ctx, grant.ID); err != nil {
		t.Fatal(err)
	}
	if res, err := c.Get(ctx, "k"); err != nil || res.Count != 0 {
		t.Errorf("after revoke: %v, %v", res, err)
	}
}
