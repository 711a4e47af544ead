package keyspaces

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// closesSoon makes pods close keyspaces as soon as nobody uses them.
func closesSoon(_ config.Kind, _ int, c *config.Config) { c.KeyspaceIdle = time.Nanosecond }

// openAll returns how many keyspaces beside the first are open, summed over all pods.
func (d *deployment) openAll() (n int) {
	for _, k := range pods.Kinds {
		for i := range d.Per {
			n += d.pod(k, i).OpenKeyspaces()
		}
	}
	return n
}

// rows is how many rows there are in a range.
func (d *deployment) rows(r engine.Range) (n int) {
	d.t.Helper()
	snap, err := d.eng.Snapshot(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	defer snap.Close()
	it := snap.Scan(d.t.Context(), r)
	defer it.Close()
	for it.Next() {
		n++
	}
	if err := it.Err(); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// leased returns how many keyspaces are recorded as having leases.
func (d *deployment) leased() (n int) {
	for shard := range keyspace.Shards {
		n += d.rows(keyspace.NewDeployment([]byte(config.DefaultRoot)).Leases(shard))
	}
	return n
}

// TestPodsIdle: keyspaces that nobody uses, with leases and without, cost no pod a goroutine, an open store or a
// commit.
func TestPodsIdle(t *testing.T) {
	const (
		n      = 50
		window = time.Second
		// slack allows for goroutines of connections and of shards of heads, and for commits of elections.
		slack = 40
	)
	d := deploy(t, 1, closesSoon)
	d.create("one") // makes what all keyspaces share
	use := func(name string, leased bool) {
		c := d.client(config.KV, 0, name)
		defer c.Close()
		put(t, c, "k", name)
		if r := <-c.Watch(t.Context(), "k", clientv3.WithRev(1)); len(r.Events) != 1 {
			t.Error(name, r)
		}
		if leased {
			l, err := c.Grant(t.Context(), 1000)
			if err != nil {
				t.Fatal(err)
			}
			put(t, c, "leased", name, clientv3.WithLease(l.ID))
		}
	}
	use("one", true)
	idle := func() (goroutines int, commits int64) {
		eventually(t, "all closed", func() bool { return d.openAll() == 0 })
		before := d.commits()
		time.Sleep(window)
		if d.openAll() != 0 {
			t.Error("a keyspace is open that no client has used")
		}
		return runtime.NumGoroutine(), d.commits() - before
	}
	goroutines, commits := idle()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("k", i))
	}
	d.create(names...)
	for i, name := range names {
		use(name, i%5 == 0)
	}
	for try := 1; ; try++ { // on a machine that stops for seconds elections change hands
		goroutinesOfMany, commitsOfMany := idle()
		t.Logf("one keyspace: %d goroutines, %d commits; %d: %d, %d", goroutines, commits, n+1, goroutinesOfMany,
			commitsOfMany)
		if goroutinesOfMany <= goroutines+slack && commitsOfMany <= 2*commits+slack {
			break
		}
		if try == 5 {
			t.Fatalf("%d idle keyspaces cost %d goroutines and %d commits more", n, goroutinesOfMany-goroutines,
				commitsOfMany-commits)
		}
	}
	if leased := d.leased(); leased != n/5+1 {
		t.Errorf("%d keyspaces are recorded as having leases", leased)
	}
	for i, name := range names { // nothing is lost
		c := d.client(config.LeaseKeeper, 0, name)
		if v := get(t, c, "k"); v != name || get(t, c, "leased") != "" != (i%5 == 0) {
			t.Errorf("%s: %q", name, v)
		}
		c.Close()
	}
}

// TestPodsExpiry: leases of a closed keyspace expire in time although nobody calls it, and leave nothing behind.
func TestPodsExpiry(t *testing.T) {
	t.Parallel() // it waits for most of its time
	d := deploy(t, 2, closesSoon)
	d.create("a")
	c := d.client(config.KV, 0, "a")
	granted := time.Now()
	l, err := c.Grant(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, "leased", "v", clientv3.WithLease(l.ID))
	put(t, c, "k", "v")
	c.Close()
	eventually(t, "closed", func() bool { return d.openAll() == 0 })
	if leased := d.leased(); leased != 1 && time.Since(granted) < 2*time.Second {
		t.Errorf("%d keyspaces are recorded as having leases", leased)
	}
	eventually(t, "expired", func() bool { return d.leased() == 0 })
	if after := time.Since(granted); after < 7*time.Second {
		t.Error("expired after", after)
	}
	eventually(t, "closed", func() bool { return d.openAll() == 0 })
	c = d.client(config.KV, 1, "a")
	if get(t, c, "leased") != "" || get(t, c, "k") != "v" {
		t.Error("the key of an expired lease, or another is gone")
	}
}

// TestPodsTakeover: when a lease keeper is killed, another one finds the leases of closed keyspaces. Those that are due
// expire, and the others stay. It opens each keyspace for that, and closes it again.
func TestPodsTakeover(t *testing.T) {
	t.Parallel() // it waits for most of its time
	n := 24
	if testing.Short() {
		n = 6
	}
	d := deploy(t, 2, closesSoon)
	ctx := d.context()
	for i := range n {
		name := fmt.Sprint("k", i)
		d.create(name)
		c := d.client(config.KV, 0, name)
		for ttl, key := range map[int64]string{6: "short", 1000: "long"} {
			l, err := c.Grant(ctx, ttl)
			if err != nil {
				t.Fatal(err)
			}
			put(t, c, key, name, clientv3.WithLease(l.ID))
		}
		c.Close()
	}
	eventually(t, "closed", func() bool { return d.openAll() == 0 })
	d.kill(config.LeaseKeeper, 0)
	counts := func(key string) (there int) {
		for i := range n {
			c := d.client(config.KV, 1, fmt.Sprint("k", i))
			if get(t, c, key) != "" {
				there++
			}
			c.Close()
		}
		return there
	}
	eventually(t, "expired", func() bool { return counts("short") == 0 })
	if long := counts("long"); long != n {
		t.Errorf("of %d leases that are alive %d are there", n, long)
	}
	eventually(t, "closed", func() bool { return d.openAll() == 0 })
}

// TestPodsDelete: when a keyspace is deleted, every pod ends the streams of its clients with an error that says so. Its
// rows are removed, and other keyspaces go on.
func TestPodsDelete(t *testing.T) {
	d := deploy(t, 2, nil)
	d.create("a", "b")
	ctx := d.context()
	info, err := keyspace.Show(ctx, d.eng, []byte(config.DefaultRoot), "a")
	if err != nil {
		t.Fatal(err)
	}
	a, b := d.client(config.KV, 1, "a"), d.client(config.WatchHub, 1, "b")
	put(t, a, "k", "v")
	watch, other := a.Watch(ctx, "k"), b.Watch(ctx, "k", clientv3.WithCreatedNotify())
	<-other
	lease, err := a.Grant(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := a.KeepAlive(ctx, lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-alive
	if _, err := adminOf(t, d.pod(config.KV, 0)).Delete(ctx, &adminv1.DeleteRequest{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	for r := range watch {
		if r.Canceled && code(r.Err()) != codes.NotFound {
			t.Error("watch:", r.Err())
		}
	}
	for _, k := range pods.Kinds {
		c := d.client(k, 0, "a")
		eventually(t, "gone", func() bool {
			_, err := c.Get(ctx, "k")
			return code(err) == codes.NotFound
		})
	}
	put(t, b, "k", "w")
	if r := <-other; len(r.Events) != 1 {
		t.Error("the other keyspace's watch:", r)
	}
	beside := keyspace.NewDeployment([]byte(config.DefaultRoot)).Beside(info.ID)
	eventually(t, "cleared", func() bool {
		n := d.rows(engine.Range{Begin: info.Prefix, End: append(info.Prefix[:len(info.Prefix)-1:len(info.Prefix)-1],
			'e')})
		for _, row := range [][]byte{beside.Head, beside.Leases} {
			n += d.rows(engine.Range{Begin: row, End: append(row[:len(row):len(row)], 0)})
		}
		return n == 0
	})
	d.create("a")
	a = d.client(config.KV, 0, "a")
	if v := get(t, a, "k"); v != "" {
		t.Errorf("the new keyspace has %q", v)
	}
}

// TestPodsDie kills one pod of each kind while clients of many keyspaces write, watch and keep leases alive. All go on;
// no client misses an event, sees one of another keyspace, or loses a lease.
func TestPodsDie(t *testing.T) {
	n := 20
	if testing.Short() {
		n = 4
	}
	const rounds = 4 // of writes; before each but the first, a pod is killed
	d := deploy(t, 2, nil)
	ctx := d.context()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprint("k", i))
	}
	d.create(names...)
	type user struct {
		c     *clientv3.Client
		watch clientv3.WatchChan
		alive <-chan *clientv3.LeaseKeepAliveResponse
		lease clientv3.LeaseID
	}
	users := make([]user, n)
	both := func(i int, name string) *clientv3.Client { // clients use the kinds of pods in turn
		k := pods.Kinds[i%3]
		c := d.client(k, 0, name)
		c.SetEndpoints(d.Addr(k, 0), d.Addr(k, 1))
		return c
	}
	for i, name := range names {
		u := user{c: both(i, name)}
		var err error
		l, err := u.c.Grant(ctx, 30)
		if err != nil {
			t.Fatal(err)
		}
		u.lease = l.ID
		if u.alive, err = u.c.KeepAlive(ctx, l.ID); err != nil {
			t.Fatal(err)
		}
		put(t, u.c, "leased", name, clientv3.WithLease(l.ID))
		u.watch = u.c.Watch(ctx, "k", clientv3.WithCreatedNotify())
		<-u.watch
		users[i] = u
	}
	var mu sync.Mutex
	sum := 0
	for round := range rounds {
		if round > 0 {
			k := pods.Kinds[round-1]
			d.kill(k, 0)
		}
		var wg sync.WaitGroup
		for i := range users {
			wg.Go(func() {
				want := fmt.Sprint(names[i], " ", round)
				for {
					_, err := users[i].c.Put(ctx, "k", want)
					if err == nil {
						break
					}
					if ctx.Err() != nil {
						t.Error(names[i], err)
						return
					}
				}
				for r := range users[i].watch {
					if err := r.Err(); err != nil {
						t.Error(names[i], err)
						return
					}
					done := false
					for _, e := range r.Events { // a write whose outcome was unknown may be there twice
						var of string
						var at int
						if _, err := fmt.Sscan(string(e.Kv.Value), &of, &at); err != nil || of != names[i] ||
							at > round || at < round-1 {
							t.Errorf("%s: %q in round %d", names[i], e.Kv.Value, round)
						}
						done = done || at == round
					}
					if done {
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				sum++
			})
		}
		wg.Wait()
	}
	if sum != n*rounds {
		t.Errorf("%d of %d", sum, n*rounds)
	}
	for i, u := range users {
		var r *clientv3.LeaseTimeToLiveResponse
		eventually(t, "answered", func() (ok bool) {
			var err error
			r, err = u.c.TimeToLive(ctx, u.lease, clientv3.WithAttachedKeys())
			return err == nil || ctx.Err() != nil
		})
		if r == nil || r.TTL <= 0 || len(r.Keys) != 1 {
			t.Errorf("%s: lease %+v", names[i], r)
		}
		if _, ok := <-u.alive; !ok {
			t.Errorf("%s: the lease is no longer kept alive", names[i])
		}
	}
}
