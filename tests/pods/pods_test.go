package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

func dialUnix(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}

// TestWholeAPI: a client of any one address can use the whole etcd API.
func TestWholeAPI(t *testing.T) {
	d := deploy(t, 1)
	d.startAll()
	r, err := d.client(d.Endpoint(config.KV, 0)).Get(d.context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	each := func(check func(d *deployment, c *clientv3.Client, k config.Kind)) {
		t.Run("each", func(t *testing.T) {
			for _, k := range pods.Kinds {
				t.Run(string(k), func(t *testing.T) {
					t.Parallel()
					d := &deployment{d.Deployment, t}
					check(d, d.client(d.Endpoint(k, 0)), k)
				})
			}
		})
	}
	each(func(d *deployment, c *clientv3.Client, k config.Kind) {
		prefix := string(k) + "/"
		first, h := d.checkKV(c, prefix)
		if h.ClusterId != r.Header.ClusterId || h.MemberId != r.Header.MemberId || h.RaftTerm == 0 {
			t.Errorf("header %v, through another pod %v", h, r.Header)
		}
		d.checkWatch(c, prefix, first, r.Header)
		d.checkLease(c, prefix, r.Header)
		d.checkConcurrency(c, prefix)
	})
	each(func(d *deployment, c *clientv3.Client, k config.Kind) {
		d.checkMaintenance(c, d.Endpoint(k, 0), r.Header)
	})
	for _, k := range pods.Kinds {
		d.checkCompaction(d.client(d.Endpoint(k, 0)))
	}
}

// checkKV returns the revision of its first write, and the header of an answer.
func (d *deployment) checkKV(c *clientv3.Client, prefix string) (first int64, _ *pb.ResponseHeader) {
	t, ctx := d.t, d.context()
	for i := range 5 {
		r, err := c.Put(ctx, fmt.Sprint(prefix, i), fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = r.Header.Revision
		}
	}
	big := strings.Repeat("v", 1<<20)
	if _, err := c.Put(ctx, prefix+"big", big); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Get(ctx, prefix+"big"); err != nil || string(r.Kvs[0].Value) != big {
		t.Error("a big value", err)
	}
	if _, err := c.Put(ctx, prefix+"big", strings.Repeat("v", 2<<20)); status.Code(err) != codes.InvalidArgument &&
		err == nil {
		t.Error("too big a value:", err)
	}
	r, err := c.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil || r.Count != 6 {
		t.Fatal(r, err)
	}
	if _, err := c.Get(ctx, "x", clientv3.WithRev(r.Header.Revision+1<<40)); err == nil ||
		!strings.Contains(err.Error(), "future revision") {
		t.Error("a future revision:", err)
	}
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Value(prefix+"1"), "=", "1")).Then(clientv3.OpPut(prefix+"1",
		"x"), clientv3.OpDelete(prefix+"2")).Commit()
	if err != nil || !txn.Succeeded || txn.Header.Revision <= r.Header.Revision {
		t.Error(txn, err)
	}
	return first, txn.Header
}

func (d *deployment) checkWatch(c *clientv3.Client, prefix string, first int64, header *pb.ResponseHeader) {
	t := d.t
	ctx, cancel := context.WithCancel(d.context())
	defer cancel()
	past := c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(first), clientv3.WithPrevKV(),
		clientv3.WithProgressNotify())
	now := c.Watch(ctx, prefix+"now", clientv3.WithCreatedNotify())
	if r := <-now; !r.Created || r.Header.ClusterId != header.ClusterId || r.Header.MemberId != header.MemberId {
		t.Fatal(r)
	}
	put, err := c.Put(ctx, prefix+"now", "1")
	if err != nil {
		t.Fatal(err)
	}
	if r := <-now; r.Err() != nil || len(r.Events) != 1 || r.Events[0].Kv.ModRevision != put.Header.Revision {
		t.Error(r)
	}
	var keys []string
	last := int64(0)
	for last < put.Header.Revision {
		r := <-past
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		for _, ev := range r.Events {
			if ev.Kv.ModRevision < last {
				t.Error("events out of order", last, ev)
			}
			last = ev.Kv.ModRevision
			keys = append(keys, strings.TrimPrefix(string(ev.Kv.Key), prefix))
			if string(ev.Kv.Key) == prefix+"1" && string(ev.Kv.Value) == "x" && string(ev.PrevKv.GetValue()) != "1" {
				t.Error("no previous value", ev)
			}
		}
	}
	if got := strings.Join(keys, " "); got != "0 1 2 3 4 big 1 2 now" {
		t.Errorf("events of %s", got)
	}
	if r := <-past; !r.IsProgressNotify() || r.Header.Revision < put.Header.Revision {
		t.Error("no progress", r)
	}
}

func (d *deployment) checkLease(c *clientv3.Client, prefix string, header *pb.ResponseHeader) {
	t, ctx := d.t, d.context()
	for i := range 20 { // many shards
		l, err := c.Grant(ctx, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if l.MemberId != header.MemberId || l.ClusterId != header.ClusterId {
			t.Error("header of a lease", l)
		}
		key := fmt.Sprint(prefix, "lease", i)
		if _, err := c.Put(ctx, key, "", clientv3.WithLease(l.ID)); err != nil {
			t.Fatal(err)
		}
		if r, err := c.KeepAliveOnce(ctx, l.ID); err != nil || r.TTL != 1000 {
			t.Error(r, err)
		}
		if r, err := c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys()); err != nil || len(r.Keys) != 1 ||
			string(r.Keys[0]) != key {
			t.Error(r, err)
		}
		if _, err := c.Revoke(ctx, l.ID); err != nil {
			t.Error(err)
		}
		if r, err := c.Get(ctx, key); err != nil || len(r.Kvs) != 0 {
			t.Error("a key has outlived its lease", r, err)
		}
	}
	// Expiry: the key is deleted without a request, and a watcher gets the event.
	granted, put := d.putExpiring(c, prefix+"expiring")
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range c.Watch(watch, prefix+"expiring", clientv3.WithRev(put.Header.Revision+1)) {
		if len(r.Events) > 0 {
			if r.Events[0].Type != clientv3.EventTypeDelete || time.Since(granted) < time.Second {
				t.Error(r.Events[0], time.Since(granted))
			}
			break
		}
	}
}

// putExpiring puts a key with a lease of two seconds, or more if the machine is too slow for that.
func (d *deployment) putExpiring(c *clientv3.Client, key string) (granted time.Time, put *clientv3.PutResponse) {
	for ttl := int64(2); ; ttl *= 2 {
		granted = time.Now()
		l, err := c.Grant(d.context(), ttl)
		if err == nil {
			put, err = c.Put(d.context(), key, "", clientv3.WithLease(l.ID))
		}
		if err == nil {
			return granted, put
		}
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			d.t.Fatal(err)
		}
	}
}

func (d *deployment) checkConcurrency(c *clientv3.Client, prefix string) {
	t, ctx := d.t, d.context()
	s, err := concurrency.NewSession(c, concurrency.WithTTL(60), concurrency.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := concurrency.NewMutex(s, prefix+"mutex")
	if err := m.Lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Unlock(ctx); err != nil {
		t.Error(err)
	}
	e := concurrency.NewElection(s, prefix+"election")
	if err := e.Campaign(ctx, "me"); err != nil {
		t.Fatal(err)
	}
	if r, err := e.Leader(ctx); err != nil || string(r.Kvs[0].Value) != "me" {
		t.Error(r, err)
	}
	// The same through the server's own lock and election services.
	conn := c.ActiveConnection()
	lock := v3lockpb.NewLockClient(conn)
	r, err := lock.Lock(ctx, &v3lockpb.LockRequest{Name: []byte(prefix + "lock"), Lease: int64(s.Lease())})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock.Unlock(ctx, &v3lockpb.UnlockRequest{Key: r.Key}); err != nil {
		t.Error(err)
	}
	election := v3electionpb.NewElectionClient(conn)
	won, err := election.Campaign(ctx, &v3electionpb.CampaignRequest{
		Name: []byte(prefix + "campaign"), Lease: int64(s.Lease()), Value: []byte("I"),
	})
	if err != nil {
		t.Fatal(err)
	}
	observe, cancel := context.WithCancel(ctx)
	defer cancel()
	o, err := election.Observe(observe, &v3electionpb.LeaderRequest{Name: []byte(prefix + "campaign")})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := o.Recv(); err != nil || string(l.Kv.Value) != "I" {
		t.Error(l, err)
	}
	if _, err := election.Resign(ctx, &v3electionpb.ResignRequest{Leader: won.Leader}); err != nil {
		t.Error(err)
	}
}

func (d *deployment) checkMaintenance(c *clientv3.Client, endpoint string, header *pb.ResponseHeader) {
	t, ctx := d.t, d.context()
	members, err := c.MemberList(ctx)
	if err != nil || len(members.Members) != 1 || members.Members[0].ID != header.MemberId ||
		members.Members[0].ClientURLs[0] != d.Endpoint(config.KV, 0) {
		t.Error(members, err)
	}
	st, err := c.Status(ctx, endpoint)
	if err != nil || st.Leader != st.Header.MemberId || st.Header.MemberId != header.MemberId ||
		st.Version != "3.7.3" || len(st.Errors) != 0 {
		t.Error(st, err)
	}
	hash, err := c.HashKV(ctx, endpoint, 0)
	if err != nil || hash.Hash == 0 {
		t.Error(hash, err)
	}
	if r, err := c.AuthStatus(ctx); err != nil || r.Enabled {
		t.Error(r, err)
	}
	if _, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Error(err)
	}
	if r, err := healthpb.NewHealthClient(c.ActiveConnection()).Check(ctx,
		&healthpb.HealthCheckRequest{}); err != nil || r.Status != healthpb.HealthCheckResponse_SERVING {
		t.Error(r, err)
	}
	if _, err := c.Snapshot(ctx); err != nil && status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

func (d *deployment) checkCompaction(c *clientv3.Client) {
	t, ctx := d.t, d.context()
	put, err := c.Put(ctx, "k", "")
	if err != nil {
		t.Fatal(err)
	}
	rev := put.Header.Revision
	if _, err := c.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, "k", clientv3.WithRev(rev-1)); err == nil || !strings.Contains(err.Error(), "compacted") {
		t.Error("compacted:", err)
	}
	w, cancel := context.WithCancel(ctx)
	defer cancel()
	if r := <-c.Watch(w, "k", clientv3.WithRev(1)); r.CompactRevision != rev {
		t.Error("a watch from before the compaction:", r)
	}
}

// TestHTTP: pods of all kinds serve probes and metrics.
func TestHTTP(t *testing.T) {
	d := deploy(t, 1)
	d.startAll()
	for _, k := range pods.Kinds {
		for path, want := range map[string]string{
			"/livez": "ok", "/livez?exclude=serializable_read": "ok", "/readyz?verbose": "[+]serving ok", "/health": `{"health":"true","reason":""}`,
			"/metrics": `headwater_relay_ready{to="`,
		} {
			if code, body := d.get(k, 0, path); code != 200 || !strings.Contains(body, want) {
				t.Errorf("%s %s: %d %s", k, path, code, body[:min(len(body), 500)])
			}
		}
	}
}

// TestDrain: pods of each kind drain, one after the other. Clients of several addresses notice nothing but a delay.
func TestDrain(t *testing.T) {
	d := deploy(t, 2)
	d.startAll()
	ctx := d.context()
	c := d.client(append(append(d.Endpoints(config.KV), d.Endpoints(config.WatchHub)...),
		d.Endpoints(config.LeaseKeeper)...)...)
	session, err := concurrency.NewSession(c, concurrency.WithTTL(30))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var watches []clientv3.WatchChan
	for range 4 {
		watches = append(watches, c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(1)))
	}
	const each = 10
	puts := 0
	put := func() {
		for range each {
			puts++
			key := fmt.Sprintf("k%04d", puts)
			eventually(t, "written", func() bool {
				_, err := c.Put(ctx, key, "", clientv3.WithLease(session.Lease()))
				return err == nil
			})
		}
	}
	put()
	for i := range d.Per {
		for _, k := range pods.Kinds {
			n := d.Node(k, i)
			n.Drain(ctx)
			closeNode(t, n)
			if code, _ := d.get(k, i, "/readyz"); code != 0 {
				t.Errorf("%s pod %d answers after its end", k, i)
			}
			put()
			d.start(k, i) // its successor starts before the next pod drains
			put()
		}
	}
	for _, w := range watches {
		seen := make(map[string]int)
		for len(seen) < puts {
			r := <-w
			if r.Err() != nil {
				t.Fatal(r.Err())
			}
			for _, ev := range r.Events {
				if ev.Type != clientv3.EventTypePut {
					t.Fatal("the lease has ended", ev)
				}
				seen[string(ev.Kv.Key)]++
			}
		}
		for k, n := range seen {
			if n != 1 && ctx.Err() == nil {
				// A put that is repeated after Unavailable may have happened twice.
				t.Logf("%s was written %d times", k, n)
			}
		}
	}
	select {
	case <-session.Done():
		t.Error("the session has ended")
	default:
	}
}

// TestTwoOfAKind: of two kv pods one removes what has been compacted, and both obey alarms.
func TestTwoOfAKind(t *testing.T) {
	d := deploy(t, 2)
	d.start(config.KV, 0)
	d.start(config.KV, 1)
	a, b := d.client(d.Endpoint(config.KV, 0)), d.client(d.Endpoint(config.KV, 1))
	ctx := d.context()
	var rev int64
	for i := range 100 {
		r, err := a.Put(ctx, "k", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		rev = r.Header.Revision
	}
	if _, err := b.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	removed := 0
	for i := range d.Per {
		if _, metrics := d.get(config.KV, i, "/metrics"); !strings.Contains(metrics,
			"headwater_compacted_entries_total 0") {
			removed++
		}
	}
	if removed != 1 {
		t.Errorf("%d pods have removed compacted entries, want one", removed)
	}
	member := uint64(0)
	if st, err := a.Status(ctx, d.Endpoint(config.KV, 0)); err != nil {
		t.Fatal(err)
	} else {
		member = st.Header.MemberId
	}
	_, err := pb.NewMaintenanceClient(a.ActiveConnection()).Alarm(ctx,
		&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: member, Alarm: pb.AlarmType_NOSPACE})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "refused by the other pod", func() bool {
		_, err := b.Put(ctx, "k", "")
		return errors.Is(err, rpctypes.ErrNoSpace)
	})
	if _, err := b.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "taken by the first pod", func() bool { _, err := a.Put(ctx, "k", ""); return err == nil })
}

// TestAlone: a pod without the others fails requests that it would relay, soon and with an error that clients
// understand. Everything else works.
func TestAlone(t *testing.T) {
	d := deploy(t, 1)
	d.start(config.KV, 0)
	c := d.client(d.Endpoint(config.KV, 0))
	ctx := d.context()
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if code, body := d.get(config.KV, 0, "/readyz"); code != 200 {
		t.Error("a kv pod is not ready while the other pods are down:", body)
	}
	// clientv3 would retry.
	conn, err := grpc.NewClient(d.Endpoint(config.KV, 0), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lease := pb.NewLeaseClient(conn)
	if _, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 10}); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	w, err := pb.NewWatchClient(conn).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	// A watch of clientv3 goes on trying. When a hub starts, it gets the events that it has missed.
	watching := make(chan clientv3.WatchChan)
	go func() { watching <- c.Watch(ctx, "k", clientv3.WithRev(1)) }()
	d.start(config.WatchHub, 0)
	if r := <-<-watching; r.Err() != nil || len(r.Events) != 1 {
		t.Error(r)
	}
}

// TestWrongConfig: a pod refuses a configuration that cannot work, and names the flag.
func TestWrongConfig(t *testing.T) {
	d := deploy(t, 1)
	for _, k := range pods.Kinds {
		for want, change := range map[string]func(*config.Config){
			"-endpoints must not be empty": func(c *config.Config) { c.KVEndpoints, c.WatchHubEndpoints = nil, nil },
			"is not host:port": func(c *config.Config) {
				c.LeaseKeeperEndpoints, c.WatchHubEndpoints = []string{"leasekeeper"}, []string{"x"}
			},
			"keyspace":            func(c *config.Config) { c.Keyspace = "Not A Name" },
			"--listen-client-url": func(c *config.Config) { c.ListenClientURLs = []string{"https://127.0.0.1:0"} },
		} {
			c := d.Config(k, 0)
			change(&c)
			n, err := pods.Start(d.context(), k, c, d.Parts)
			if err == nil {
				t.Error(k, want, errors.Join(errors.New("was taken"), n.Close()))
			} else if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", k, err, want)
			}
		}
	}
}
