package snapshots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/migrate"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

// domain is the domain below which keyspaces have their host names.
const domain = "etcd.test"

// move is a migration from an etcd into the keyspace k of a server.
type move struct {
	*migrate.Migration
	source, target *clientv3.Client
	server         *hw.Server
	notes          chan string
}

// dialKeyspace returns a client of a keyspace.
func dialKeyspace(t *testing.T, endpoint, keyspace string) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: timeout, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithAuthority(keyspace + "." + domain)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// newMove starts a server, and prepares a migration of an etcd.
func newMove(t *testing.T, source *clientv3.Client) *move {
	t.Helper()
	s := hw.Run(t, hw.Headwater(t), filepath.Join(t.TempDir(), "headwater"),
		"--disk-reserve-bytes=-1", "--bcrypt-cost=4", "--keyspace-domain="+domain)
	return moveInto(t, source, s, "k")
}

// moveInto prepares a migration into a keyspace of a server.
func moveInto(t *testing.T, source *clientv3.Client, s *hw.Server, keyspace string) *move {
	t.Helper()
	m := moveThrough(t, source, "unix://"+filepath.Join(s.DataDir(), config.AdminSocket), keyspace)
	m.server, m.target = s, dialKeyspace(t, s.URL(), keyspace)
	return m
}

// adminConn returns a connection to an admin API.
func adminConn(t *testing.T, url string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(url, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// moveThrough prepares a migration into a keyspace behind an admin API.
func moveThrough(t *testing.T, source *clientv3.Client, admin, keyspace string) *move {
	t.Helper()
	m := &move{source: source, notes: make(chan string, 100)}
	m.Migration = &migrate.Migration{
		Source: migrate.NewSource(source), Target: migrate.NewTarget(adminConn(t, admin), keyspace),
		Note: func(line string) { t.Log(line); m.notes <- line },
	}
	return m
}

// run runs the migration until end is called, which returns its outcome.
func (m *move) run(t *testing.T) (end func() error) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() error {
		cancel()
		defer m.Close()
		return <-done
	}
}

// await waits until the migration has noted a text.
func (m *move) await(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for {
		select {
		case line := <-m.notes:
			if strings.Contains(line, text) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("%q was not recorded", text)
		}
	}
}

// refused checks that the keyspace takes no writes.
func refused(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	for name, f := range map[string]func() error{
		"put":    func() error { _, err := c.Put(ctx, "a", "own"); return err },
		"delete": func() error { _, err := c.Delete(ctx, "a"); return err },
		"txn":    func() error { _, err := c.Txn(ctx).Then(clientv3.OpPut("a", "own")).Commit(); return err },
		"grant":  func() error { _, err := c.Grant(ctx, 100); return err },
		"keepalive": func() error { // not clientv3's own method, which retries
			s, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
			if err == nil {
				err = s.Send(&pb.LeaseKeepAliveRequest{ID: 1})
			}
			if err == nil {
				_, err = s.Recv()
			}
			return err
		},
		"compact": func() error { _, err := c.Compact(ctx, 10); return err },
		"user":    func() error { _, err := c.UserAdd(ctx, "u", "p"); return err },
	} {
		err := f()
		code, text := status.Code(err), fmt.Sprint(err)
		if code != codes.Unavailable && !strings.Contains(text, "follows another") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMigrate copies an etcd while clients write to it, and cuts over. Clients read the same as before, a watch goes on
// where it was, and the copy already answers reads before the cut-over.
func TestMigrate(t *testing.T) {
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	m := newMove(t, dial(t, etcdOf(t, "")))
	compact := fill(t, m.source, seed, true)
	g := &traffic{Rand: rand.New(rand.NewPCG(seed, 1)), c: m.source}
	for range 3 { // later runs go on where the run before ended
		end := m.run(t)
		for range 30 {
			g.step(t, false)
		}
		m.await(t, "equal")
		refused(t, m.target)
		if err := end(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for range 10 {
			g.step(t, false)
		}
	}
	put, err := m.source.Put(t.Context(), "last", "two")
	if err != nil {
		t.Fatal(err)
	}
	head := put.Header.Revision
	watch := m.target.Watch(t.Context(), "last", clientv3.WithRev(head)) // as a client does that has seen head-1
	if err := m.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	done, err := m.CutOver(t.Context())
	if err != nil || done.Revision != head || done.Full || done.Keys == 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	same(t, "after the cut-over", pictureOf(t, m.source, compact), pictureOf(t, m.target, compact))
	next, err := m.target.Put(t.Context(), "last", "three")
	if err != nil || next.Header.Revision != head+1 {
		t.Fatalf("the next revision: %v, %v", next, err)
	}
	for want := head; want <= head+1; {
		r := <-watch
		if r.Err() != nil || len(r.Events) == 0 {
			t.Fatalf("watch: %v", r.Err())
		}
		for _, ev := range r.Events {
			if ev.Kv.ModRevision != want {
				t.Fatalf("watch: revision %d, want %d", ev.Kv.ModRevision, want)
			}
			want++
		}
	}
	if err := m.Run(t.Context()); !errors.Is(err, migrate.ErrNotFollowing) {
		t.Errorf("afterwards: %v", err)
	}
	if err := m.server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := m.server.Start(); err != nil {
		t.Fatal(err)
	}
	if r, err := m.target.Get(t.Context(), "last"); err != nil || r.Kvs[0].ModRevision != head+1 {
		t.Errorf("after a restart: %v, %v", r, err)
	}
	// A keyspace can be a source, as an etcd can. Its alarm is not copied.
	_, err = pb.NewMaintenanceClient(m.target.ActiveConnection()).Alarm(t.Context(), &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: next.Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
	})
	if err != nil {
		t.Fatal(err)
	}
	other := moveInto(t, m.target, m.server, "other")
	if err := other.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if done, err := other.CutOver(t.Context()); err != nil || done.Revision != head+1 || !done.Full {
		t.Fatalf("%+v, %v", done, err)
	}
	same(t, "in another keyspace", pictureOf(t, m.target, compact), pictureOf(t, other.target, compact))
	if _, err := other.target.Put(t.Context(), "last", "four"); err != nil {
		t.Errorf("under the alarm of its source: %v", err)
	}
}

// TestMigrateAnew: if the source has compacted revisions that the copy still needs, it is copied anew. Another source
// is refused.
func TestMigrateAnew(t *testing.T) {
	m := newMove(t, dial(t, etcdOf(t, "")))
	ctx := t.Context()
	put := func(c *clientv3.Client, value string) int64 {
		t.Helper()
		r, err := c.Put(ctx, "key", value)
		if err != nil {
			t.Fatal(err)
		}
		return r.Header.Revision
	}
	put(m.source, "1")
	if err := m.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	m.Close()
	put(m.source, "2")
	rev := put(m.source, "3")
	if _, err := m.source.Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	other, err := refetcd.Start(func(c *embed.Config) { c.InitialClusterToken = "other" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Remove)
	m.Source = migrate.NewSource(dial(t, other.Addr()))
	if err := m.CatchUp(ctx); err == nil || !strings.Contains(err.Error(), "follows the cluster") {
		t.Errorf("another source: %v", err)
	}
	m.Source = migrate.NewSource(m.source)
	end := m.run(t)
	m.await(t, "the copy starts again")
	m.await(t, "equal")
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, err := m.target.Get(ctx, "key", clientv3.WithRev(rev-1)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("the copy has data that the source lacks: %v", err)
	}
	put(m.source, "4")
	if err := m.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	done, err := m.CutOver(ctx)
	if err != nil || done.Revision != rev+1 || done.Keys != 1 {
		t.Fatalf("%+v, %v", done, err)
	}
	same(t, "after the cut-over", pictureOf(t, m.source, rev), pictureOf(t, m.target, rev))
}

// cutter forwards connections to a server, and can cut them.
type cutter struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

// newCutter listens for connections, and forwards them to an address.
func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(in, out); in.Close() })
			wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
		}
	})
	t.Cleanup(func() {
		l.Close()
		c.cut()
		wg.Wait()
	})
	return c
}

// cut ends all connections.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// TestMigrateCut: when the connections to the source break, the migration goes on, misses nothing, and compares all in
// the end.
func TestMigrateCut(t *testing.T) {
	etcd := etcdOf(t, "")
	direct := dial(t, etcd)
	c := newCutter(t, etcd)
	put := func(i int) {
		t.Helper()
		if _, err := direct.Put(t.Context(), "key", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	m := newMove(t, dial(t, c.Addr().String()))
	end := m.run(t)
	m.await(t, "copied")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	watch := m.target.Watch(ctx, "key", clientv3.WithRev(2))
	for i := 0; i < 5; {
		r, ok := <-watch
		if !ok || r.Err() != nil {
			t.Fatalf("after %d: %v", i, r.Err())
		}
		for _, ev := range r.Events {
			if string(ev.Kv.Value) != fmt.Sprint(i) {
				t.Fatalf("%q, want %d", ev.Kv.Value, i)
			}
			i++
			c.cut()
			put(i)
		}
	}
	m.await(t, "equal")
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
