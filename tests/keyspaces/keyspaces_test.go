// Package keyspaces tests many keyspaces in one process. Each is a whole etcd to its clients, which cannot notice that
// there are others.
package keyspaces

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

const domain = "etcd.test"

// server is a standalone server in this process.
func server(t *testing.T, change func(*config.Config)) *compose.Server {
	t.Helper()
	return standalone.Start(t, func(c *config.Config) {
		c.KeyspaceDomain = domain
		if change != nil {
			change(c)
		}
	})
}

func start(t *testing.T, c config.Config) *compose.Server {
	t.Helper()
	s, err := compose.Start(t.Context(), config.Standalone, c, embedded.Parts(patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *compose.Server) {
	t.Helper()
	s.Drain(context.Background())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func create(t *testing.T, s *compose.Server, name string, settings *keyspacev1.Keyspace) {
	t.Helper()
	if _, err := keyspace.Create(t.Context(), s.Engine, compose.OwnRoot, name, settings); err != nil {
		t.Fatal(err)
	}
}

// client returns a client whose host name names the keyspace; "" stands for the first.
func client(t *testing.T, s *compose.Server, name string) *clientv3.Client {
	t.Helper()
	o := []grpc.DialOption{}
	if name != "" {
		o = append(o, grpc.WithAuthority(name+"."+domain+":2379"))
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.URL()}, DialOptions: o, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func get(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func put(t *testing.T, c *clientv3.Client, key, value string, o ...clientv3.OpOption) int64 {
	t.Helper()
	r, err := c.Put(t.Context(), key, value, o...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// TestWholeEtcds: keyspaces have revisions, leases, watches, locks, compaction, members and ids of their own.
func TestWholeEtcds(t *testing.T) {
	s := server(t, nil)
	first := client(t, s, "")
	for i := range 5 {
		put(t, first, "k", fmt.Sprint("first", i))
	}
	names := []string{"a", "b", "c"}
	clusters := map[uint64]bool{}
	for _, n := range names {
		create(t, s, n, nil)
		c := client(t, s, n)
		watch := c.Watch(t.Context(), "", clientv3.WithPrefix())
		for i := range 3 {
			if rev := put(t, c, "k", fmt.Sprint(n, i)); rev != int64(i+2) {
				t.Errorf("%s: revision %d of write %d", n, rev, i)
			}
		}
		for seen := 0; seen < 3; {
			r := <-watch
			for _, e := range r.Events {
				if want := fmt.Sprint(n, seen); string(e.Kv.Value) != want {
					t.Errorf("%s: event %q, want %q", n, e.Kv.Value, want)
				}
				seen++
			}
		}
		lease, err := c.Grant(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		put(t, c, "leased", n, clientv3.WithLease(lease.ID))
		if _, err := c.Compact(t.Context(), 3); err != nil {
			t.Error(err)
		}
		session, err := concurrency.NewSession(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := concurrency.NewMutex(session, "m").Lock(t.Context()); err != nil {
			t.Error(n, err) // every keyspace has this lock, all held at the same time
		}
		m, err := c.MemberList(t.Context())
		if err != nil || len(m.Members) != 1 {
			t.Fatal(m, err)
		}
		clusters[m.Header.ClusterId] = true
	}
	if len(clusters) != len(names) {
		t.Errorf("%d cluster ids of %d keyspaces", len(clusters), len(names))
	}
	if v := get(t, first, "k"); v != "first4" || get(t, first, "leased") != "" {
		t.Errorf("the first keyspace has %q", v)
	}
	for _, n := range names {
		c := client(t, s, n)
		if v := get(t, c, "k"); v != n+"2" {
			t.Errorf("%s: %q", n, v)
		}
		leases, err := c.Leases(t.Context())
		if err != nil || len(leases.Leases) != 2 {
			t.Errorf("%s: leases %v, %v", n, leases, err)
		}
		if _, err := c.Get(t.Context(), "k", clientv3.WithRev(2)); !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("%s: a compacted revision: %v", n, err)
		}
	}
	leases, err := first.Leases(t.Context())
	if err != nil || len(leases.Leases) != 0 {
		t.Errorf("the first keyspace has leases %v, %v", leases, err)
	}
}

// TestChoice: host and metadata name the keyspace. A call that names a keyspace that does not exist is refused, and
// creates nothing.
func TestChoice(t *testing.T) {
	s := server(t, nil)
	create(t, s, "a", nil)
	create(t, s, "b", nil)
	first, a := client(t, s, ""), client(t, s, "a")
	put(t, first, "who", "first")
	put(t, a, "who", "a")
	put(t, client(t, s, "b"), "who", "b")
	with := func(v ...string) context.Context {
		ctx := t.Context()
		for _, v := range v {
			ctx = metadata.AppendToOutgoingContext(ctx, compose.KeyspaceMetadata, v) //nolint:fatcontext // a few
		}
		return ctx
	}
	for _, x := range []struct {
		c    *clientv3.Client
		ctx  context.Context
		want string
		code codes.Code
	}{
		{first, t.Context(), "first", codes.OK},
		{first, with("default"), "first", codes.OK},
		{first, with("b"), "b", codes.OK},
		{a, with("a"), "a", codes.OK},
		{a, with("b"), "", codes.InvalidArgument},
		{first, with("a", "b"), "", codes.InvalidArgument},
		{first, with("none"), "", codes.NotFound},
		{first, with("No such name!"), "", codes.NotFound},
		{client(t, s, "none"), t.Context(), "", codes.NotFound},
		{client(t, s, "a.b"), t.Context(), "", codes.NotFound},
		{client(t, s, "A"), t.Context(), "a", codes.OK},
	} {
		r, err := x.c.KV.Get(x.ctx, "who")
		if code(err) != x.code {
			t.Errorf("%v, want %v", err, x.code)
		}
		if err == nil && (len(r.Kvs) != 1 || string(r.Kvs[0].Value) != x.want) {
			t.Errorf("%v, want %s", r.Kvs, x.want)
		}
	}
	all, err := keyspace.List(t.Context(), s.Engine, compose.OwnRoot, "", 0)
	if err != nil || len(all) != 2 {
		t.Error(all, err)
	}
}

func code(err error) codes.Code {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return e.Code()
	}
	return status.Code(err)
}

// TestDelete: when a keyspace is deleted, its streams and calls end with an error that says so, and other keyspaces go
// on. A new keyspace of the same name is empty.
func TestDelete(t *testing.T) {
	s := server(t, nil)
	create(t, s, "a", nil)
	create(t, s, "b", nil)
	a, b := client(t, s, "a"), client(t, s, "b")
	put(t, a, "k", "v")
	put(t, b, "k", "v")
	ctx := bounded(t.Context(), t)
	watch, other := a.Watch(ctx, "k"), b.Watch(ctx, "k")
	lease, err := a.Grant(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := a.KeepAlive(t.Context(), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-alive
	if err := keyspace.Delete(t.Context(), s.Engine, compose.OwnRoot, "a"); err != nil {
		t.Fatal(err)
	}
	for r := range watch {
		if r.Canceled && code(r.Err()) != codes.NotFound {
			t.Error("watch:", r.Err())
		}
	}
	if ctx.Err() != nil {
		t.Fatal("the watch of a deleted keyspace has not ended")
	}
	eventually(t, "gone", func() bool {
		_, err := a.Get(t.Context(), "k")
		if err != nil && code(err) != codes.NotFound && code(err) != codes.Unavailable {
			t.Fatal(err)
		}
		return code(err) == codes.NotFound
	})
	put(t, b, "k", "w")
	if r := <-other; len(r.Events) != 1 {
		t.Error("the other keyspace's watch:", r)
	}
	create(t, s, "a", nil)
	if v := get(t, a, "k"); v != "" {
		t.Errorf("the new keyspace has %q", v)
	}
	if rev := put(t, a, "k", "v"); rev != 2 {
		t.Error("revision", rev)
	}
}

// TestIdle: a keyspace that nobody uses is closed, and is unchanged when it is used again. A keyspace with leases stays
// open, and the leases expire, also after a restart.
func TestIdle(t *testing.T) {
	s := server(t, func(c *config.Config) { c.KeyspaceIdle = time.Nanosecond })
	create(t, s, "a", nil)
	create(t, s, "leased", nil)
	c := client(t, s, "a")
	for i := range 20 {
		put(t, c, "k", fmt.Sprint(i))
		waitOpen(t, s, 0)
		if v := get(t, c, "k"); v != fmt.Sprint(i) {
			t.Fatalf("%q after %d", v, i)
		}
		if i > 2 {
			break
		}
	}
	l := client(t, s, "leased")
	lease, err := l.Grant(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	put(t, l, "k", "v", clientv3.WithLease(lease.ID))
	waitOpen(t, s, 1)
	conf := s.Config
	stop(t, s)
	s = start(t, conf)
	waitOpen(t, s, 1) // the server opens it by itself, for its lease
	waitOpen(t, s, 0) // the lease has expired
	if v := get(t, client(t, s, "leased"), "k"); v != "" {
		t.Error("a key of an expired lease")
	}
}

// waitOpen waits until n keyspaces beside the first are open.
func waitOpen(t *testing.T, s *compose.Server, n int) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " open keyspaces"), func() bool { return s.OpenKeyspaces() == n })
}

// TestLimits: requests above a keyspace's limit are refused with etcd's error, in that keyspace alone.
func TestLimits(t *testing.T) {
	s := server(t, nil)
	create(t, s, "small", &keyspacev1.Keyspace{Limits: &keyspacev1.Limits{Bytes: 200_000, Watches: 2, Streams: 2}})
	create(t, s, "slow", &keyspacev1.Keyspace{Limits: &keyspacev1.Limits{WritesPerSecond: 1}})
	create(t, s, "free", nil)
	value := string(slices.Repeat([]byte("v"), 50_000))
	small, slow, free := client(t, s, "small"), client(t, s, "slow"), client(t, s, "free")
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		_, err = small.Put(t.Context(), fmt.Sprint(i), value)
	}
	if !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Error("over the limit of bytes:", err)
	}
	eventually(t, "the alarm", func() bool { // it comes after the refusal
		r, err := small.AlarmList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Alarms) == 1
	})
	for i := range 10 {
		put(t, free, fmt.Sprint(i), value)
	}
	if r, err := free.AlarmList(t.Context()); err != nil || len(r.Alarms) != 0 {
		t.Error("an alarm of another keyspace:", r, err)
	}
	for err = nil; err == nil; {
		_, err = slow.Put(t.Context(), "k", "v")
	}
	if !errors.Is(err, rpctypes.ErrTooManyRequests) {
		t.Error("over the limit of writes:", err)
	}
	if v := get(t, slow, "k"); v != "v" {
		t.Errorf("read %q", v)
	}
}

// TestConcurrent: many keyspaces are opened, used and closed at the same time, and no data of one appear in another,
// whether they commit apart or together.
func TestConcurrent(t *testing.T) {
	t.Run("apart", func(t *testing.T) { testConcurrent(t, false) })
	t.Run("together", func(t *testing.T) { testConcurrent(t, true) })
}

func testConcurrent(t *testing.T, together bool) {
	const n, writes = 30, 20
	s := server(t, func(c *config.Config) { c.KeyspaceIdle, c.JoinCommits = time.Nanosecond, together })
	c := client(t, s, "")
	var wg sync.WaitGroup
	for i := range n {
		create(t, s, fmt.Sprint("k", i), nil)
		wg.Go(func() {
			ctx := metadata.AppendToOutgoingContext(t.Context(), compose.KeyspaceMetadata, fmt.Sprint("k", i))
			for j := range writes {
				r, err := c.Put(ctx, "key", fmt.Sprint(i, j))
				if code(err) == codes.Unavailable {
					continue // the keyspace was being closed, and the put may have happened
				}
				if err != nil || r.Header.Revision > int64(j+2) {
					t.Error(i, j, r, err)
					return
				}
				g, err := c.Get(ctx, "key")
				if err == nil && string(g.Kvs[0].Value) != fmt.Sprint(i, j) {
					t.Errorf("%d: read %q after %d", i, g.Kvs[0].Value, j)
				}
			}
		})
	}
	wg.Wait()
	waitOpen(t, s, 0)
}
