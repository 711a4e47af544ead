package snapshots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/migrate"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// deployment is two pods of each kind on a store that behaves as FoundationDB does.
type deployment struct {
	*pods.Deployment
	t       *testing.T
	sockets string
	stores  map[string]*faults.Store // of each pod, by its name
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	b, eng := bus.NewLocal(), testengine.Open(t, rand.Uint64())
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	sockets, err := os.MkdirTemp("", "hwadmin") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	parts := compose.Parts{Bus: b, Log: slog.New(slog.DiscardHandler)}
	d := &deployment{pods.New(t, parts, 2), t, sockets, map[string]*faults.Store{}}
	d.Configure = func(_ config.Kind, _ int, c *config.Config) {
		c.KeyspaceDomain, c.BcryptCost = domain, 4
		c.ListenAdminURLs = []string{"unix://" + filepath.Join(sockets, c.Name)}
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for _, k := range pods.Kinds {
		for i := range d.Per {
			store := faults.New(testengine.KeepOpen(eng), faults.Options{})
			d.Parts.Engine, d.stores[fmt.Sprint(k, i)] = store, store
			if _, err := d.Start(ctx, k, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

// admin returns the address of the admin API of a kv pod.
func (d *deployment) admin(i int) string {
	return "unix://" + filepath.Join(d.sockets, d.Config(config.KV, i).Name)
}

// client returns a client of a keyspace at a pod.
func (d *deployment) client(k config.Kind, i int, name string) *clientv3.Client {
	return dialKeyspace(d.t, d.Addr(k, i), name)
}

// kill ends a kv pod as a crash does.
func (d *deployment) kill(i int) {
	d.t.Helper()
	d.stores[fmt.Sprint(config.KV, i)].Crash()
	closed := make(chan error)
	go func() { closed <- d.Node(config.KV, i).Close() }() // Close waits for the store
	d.t.Cleanup(func() { d.t.Log("a pod that was killed:", <-closed) })
}

// check runs fsck on the rows of a keyspace.
func (d *deployment) check(name string) {
	d.t.Helper()
	e := d.stores[fmt.Sprint(config.KV, 1)]
	info, err := keyspace.Show(d.t.Context(), e, []byte(d.Config(config.KV, 1).FDBRoot), name)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := fsck.Check(d.t.Context(), e, fsck.Options{Prefix: info.Prefix})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, f := range r.Findings {
		d.t.Errorf("%s: %s", name, f)
	}
}

// refusedAt checks that a pod refuses writes. It does not use clientv3's methods, which would retry some.
func refusedAt(t *testing.T, pod int, c *clientv3.Client) {
	t.Helper()
	ctx, conn := t.Context(), c.ActiveConnection()
	kv, leases, auth := pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewAuthClient(conn)
	var errs [5]error
	_, errs[0] = kv.Put(ctx, &pb.PutRequest{Key: []byte("a")})
	_, errs[1] = kv.Compact(ctx, &pb.CompactionRequest{Revision: 60})
	_, errs[2] = leases.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 9})
	_, errs[3] = leases.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	_, errs[4] = auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "x", Password: "x"})
	for i, err := range errs {
		if status.Code(err) != codes.Unavailable {
			t.Errorf("request %d at pod %d: %v", i, pod, err)
		}
	}
}

// TestDefaultRoot: what is checked for pods that were given no root is what they take then.
func TestDefaultRoot(t *testing.T) {
	if migrate.DefaultRoot != config.DefaultRoot {
		t.Errorf("libs/migrate takes %q, libs/config %q", migrate.DefaultRoot, config.DefaultRoot)
	}
}

// TestMigrateIntoPods copies an etcd, to which clients write, into a keyspace of pods, kills the pod that follows, and
// cuts over. Meanwhile all pods answer reads and refuse writes, and a watch at a hub goes on. Clients read the same as
// before. Then it copies the keyspace to another keyspace of pods, and to a standalone server.
func TestMigrateIntoPods(t *testing.T) {
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	etcd := etcdOf(t, "")
	source := dial(t, etcd)
	compact := fill(t, source, seed, true)
	for _, name := range []string{"root", "u"} {
		if _, err := source.UserAdd(t.Context(), name, "password"); err != nil {
			t.Fatal(err)
		}
	}
	g := &traffic{Rand: rand.New(rand.NewPCG(seed, 1)), c: source}
	d := deploy(t)
	m := moveThrough(t, source, d.admin(0), "k")
	end := m.run(t)
	m.await(t, "copied")
	watching, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	watch := d.client(config.WatchHub, 1, "k").Watch(watching, "last", clientv3.WithRev(compact))
	for range 30 {
		g.step(t, false)
	}
	m.await(t, "equal")
	for i := range d.Per {
		c := d.client(config.KV, i, "k")
		if r, err := c.Get(t.Context(), "last"); err != nil || r.Header.Revision < compact {
			t.Errorf("a read at pod %d: %v, %v", i, r, err)
		}
		refusedAt(t, i, c)
	}
	d.kill(0)
	_ = end()
	for range 10 {
		g.step(t, false)
	}
	put, err := source.Put(t.Context(), "last", "two")
	if err != nil {
		t.Fatal(err)
	}
	head := put.Header.Revision
	m = moveThrough(t, source, d.admin(1), "k")
	if err := m.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	done, err := m.CutOver(t.Context())
	if err != nil || done.Revision != head || done.Keys == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	target := d.client(config.KV, 1, "k")
	want := pictureOf(t, source, compact)
	same(t, "after the cut-over", want, pictureOf(t, target, compact))
	same(t, "at a hub", want, pictureOf(t, d.client(config.WatchHub, 0, "k"), compact))
	users, err := target.UserList(t.Context())
	if err != nil || len(users.Users) != 2 {
		t.Errorf("users: %v, %v", users, err)
	}
	next, err := target.Put(t.Context(), "last", "three")
	if err != nil || next.Header.Revision <= head {
		t.Fatalf("the next revision after %d: %v, %v", head, next, err)
	}
	var seen []string
	for last := int64(0); last < next.Header.Revision; {
		r := <-watch
		if r.Err() != nil || len(r.Events) == 0 {
			t.Fatalf("watch: %v", r.Err())
		}
		for _, ev := range r.Events {
			if ev.Kv.ModRevision <= last {
				t.Errorf("watch: %d after %d", ev.Kv.ModRevision, last)
			}
			last, seen = ev.Kv.ModRevision, append(seen, string(ev.Kv.Value))
		}
	}
	if n := len(seen); n < 3 || seen[n-1] != "three" || seen[n-2] != "two" {
		t.Errorf("watched %q", seen)
	}
	d.check("k")
	copies(t, d, target, next.Header.Revision, compact)
}

// copies copies a keyspace of pods to another keyspace of the pods, and to a standalone server.
func copies(t *testing.T, d *deployment, source *clientv3.Client, head, compact int64) {
	t.Helper()
	s := hw.Run(t, hw.Headwater(t), filepath.Join(t.TempDir(), "headwater"),
		"--disk-reserve-bytes=-1", "--bcrypt-cost=4", "--keyspace-domain="+domain)
	back := moveInto(t, source, s, "back")
	other := moveThrough(t, source, d.admin(1), "other")
	other.target = d.client(config.KV, 1, "other")
	for _, m := range []*move{back, other} {
		if err := m.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 { // the copies follow these writes, whose revisions have gaps
		put, err := source.Put(t.Context(), "last", fmt.Sprint(i))
		if err != nil {
			t.Fatal(err)
		}
		head = put.Header.Revision
	}
	want := pictureOf(t, source, compact)
	for _, m := range []*move{back, other} {
		if err := m.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if done, err := m.CutOver(t.Context()); err != nil || done.Revision != head {
			t.Fatalf("%+v, %v", done, err)
		}
		same(t, "a copy", want, pictureOf(t, m.target, compact))
		if r, err := m.target.Put(t.Context(), "own", "1"); err != nil || r.Header.Revision <= head {
			t.Errorf("the next revision after %d: %v, %v", head, r, err)
		}
	}
	d.check("other")
}

// TestRestoreIntoPods restores a snapshot into a keyspace of pods, whose leases expire by themselves. A damaged file
// leaves no keyspace. An interrupted restore leaves none either, and can go on through another pod.
func TestRestoreIntoPods(t *testing.T) {
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	endpoint := etcdOf(t, "")
	source := dial(t, endpoint)
	fill(t, source, seed, true)
	if _, err := source.Grant(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	path, head := saveLeased(t, endpoint, source)
	d := deploy(t)
	restore := func(ctx context.Context, pod int, path string, r *adminv1.RestoreRequest) (*adminv1.Restored, error) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return migrate.Restore(ctx, adminConn(t, d.admin(pod)), r, f, func(*adminv1.RestoreProgress) {})
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	whole[len(whole)/2] ^= 1
	if err := os.WriteFile(damaged, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &adminv1.RestoreRequest{Keyspace: "k"}
	if _, err := restore(t.Context(), 0, damaged, r); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a damaged file: %v", err)
	}
	d.stores[fmt.Sprint(config.KV, 0)].Crash() // the pod does nothing more
	if _, err := restore(t.Context(), 0, path, r); err == nil {
		t.Error("a pod that has crashed has made a keyspace")
	}
	admin := adminv1.NewKeyspacesClient(adminConn(t, d.admin(1)))
	if _, err := admin.Show(t.Context(), &adminv1.ShowRequest{Name: "k"}); status.Code(err) != codes.NotFound {
		t.Errorf("a keyspace that is not whole: %v", err)
	}
	t.Log(runCtl(t, "--endpoints", d.admin(1), "snapshot", "restore", path, "--keyspace", "k"))
	if _, err := restore(t.Context(), 1, path, r); status.Code(err) != codes.AlreadyExists {
		t.Errorf("once more: %v", err)
	}
	k := d.client(config.KV, 1, "k")
	// The lease expires although no client has used it.
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	gone := <-d.client(config.WatchHub, 0, "k").Watch(ctx, "leased", clientv3.WithRev(head+1))
	if len(gone.Events) != 1 || gone.Events[0].Type != clientv3.EventTypeDelete ||
		gone.Events[0].Kv.ModRevision <= head {
		t.Errorf("%v after revision %d", gone.Events, head)
	}
	store, root := d.stores[fmt.Sprint(config.KV, 1)], []byte(d.Config(config.KV, 1).FDBRoot)
	// Another restore with that name was interrupted before it wrote anything. The settings of this restore apply.
	interrupted := &keyspacev1.Keyspace{Labels: map[string]string{"by": "the other"}}
	if _, err := keyspace.Reserve(t.Context(), store, root, "bumped", interrupted); err != nil {
		t.Fatal(err)
	}
	bumped, err := restore(t.Context(), 1, path, &adminv1.RestoreRequest{
		Keyspace: "bumped", BumpRevision: 1000, MarkCompacted: true,
		Settings: &adminv1.Settings{Labels: map[string]string{"by": "this one"}},
	})
	if err != nil || bumped.GetRevision() != head+1000 || bumped.GetCompactRevision() != bumped.GetRevision() {
		t.Fatalf("%v, %v", bumped, err)
	}
	info, err := admin.Show(t.Context(), &adminv1.ShowRequest{Name: "bumped"})
	if err != nil || info.GetSettings().GetLabels()["by"] != "this one" {
		t.Errorf("%v, %v", info, err)
	}
	b := d.client(config.KV, 1, "bumped")
	if _, err := b.Get(t.Context(), "a", clientv3.WithRev(head)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("below the revision that is compacted: %v", err)
	}
	_, err = restore(t.Context(), 1, path, &adminv1.RestoreRequest{
		Keyspace: "far", BumpRevision: 1 << 61, MarkCompacted: true,
	})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a database that is too young: %v", err)
	}
	far := &adminv1.DeleteRequest{Name: "far"}
	if _, err := admin.Delete(t.Context(), far); status.Code(err) != codes.NotFound {
		t.Errorf("it has left something: %v", err)
	}
	if _, err := keyspace.Reserve(t.Context(), store, root, "far", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.Delete(t.Context(), far); err != nil {
		t.Errorf("after an interrupted restore: %v", err)
	}
	if _, err := admin.Delete(t.Context(), far); status.Code(err) != codes.NotFound {
		t.Errorf("nothing is left of it: %v", err)
	}
	if _, err := k.Put(t.Context(), "own", ""); err != nil {
		t.Error(err)
	}
	d.check("k")
	d.check("bumped")
	backups := t.TempDir()
	t.Log(runCtl(t, "backup", "save", "--to", backups, "--client-endpoint", endpoint))
	out := runCtl(t, "--endpoints", d.admin(1), "backup", "restore", "--from", backups, "-k", "backed-up")
	if !strings.Contains(out, "into the keyspace backed-up") {
		t.Error(out)
	}
	d.check("backed-up")
	keptCopy(t, d, source)
}

// keptCopy: a first copy that is killed goes on with the snapshot that it has kept, also when the source has moved on,
// and takes another one if the source has compacted what came after it. Nothing is left of either.
func keptCopy(t *testing.T, d *deployment, source *clientv3.Client) {
	t.Helper()
	dir := t.TempDir()
	interrupt := func() {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		m := moveThrough(t, source, d.admin(1), "kept")
		m.WorkDir = dir
		m.Report = func(migrate.Progress) { cancel() } // the snapshot has been taken
		if err := m.CatchUp(ctx); err == nil {
			t.Fatal("it was not interrupted")
		}
		m.Close()
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Fatalf("%v, %v", left, err)
		}
	}
	for _, compacts := range []bool{false, true} {
		interrupt()
		put, err := source.Put(t.Context(), "later", fmt.Sprint(compacts))
		if err == nil && compacts {
			_, err = source.Compact(t.Context(), put.Header.Revision)
		}
		if err != nil {
			t.Fatal(err)
		}
		m := moveThrough(t, source, d.admin(1), "kept")
		m.WorkDir = dir
		if err := m.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.Close()
		if note := <-m.notes; strings.Contains(note, "goes on with the snapshot") == compacts {
			t.Errorf("compacted: %t, and it says %s", compacts, note)
		}
		r, err := d.client(config.KV, 1, "kept").Get(t.Context(), "later")
		if err != nil || len(r.Kvs) != 1 || r.Kvs[0].ModRevision != put.Header.Revision {
			t.Errorf("%v, %v", r, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%v is left, %v", left, err)
		}
		d.check("kept")
		admin := adminv1.NewKeyspacesClient(adminConn(t, d.admin(1)))
		if _, err := admin.Delete(t.Context(), &adminv1.DeleteRequest{Name: "kept"}); err != nil {
			t.Fatal(err)
		}
	}
}

// saveLeased fetches a snapshot with the key "leased", whose lease is about to expire. It returns the snapshot's
// revision.
func saveLeased(t *testing.T, endpoint string, c *clientv3.Client) (path string, head int64) {
	t.Helper()
	for ttl := int64(1); ; ttl *= 2 { // a machine may be too slow for the first
		lease, err := c.Grant(t.Context(), ttl)
		if err != nil {
			t.Fatal(err)
		}
		put, err := c.Put(t.Context(), "leased", "", clientv3.WithLease(lease.ID))
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		path = save(t, endpoint, 0)
		if r, err := c.Get(t.Context(), "leased"); err != nil {
			t.Fatal(err)
		} else if r.Header.Revision == put.Header.Revision { // the lease has not expired before the snapshot
			return path, put.Header.Revision
		}
	}
}
