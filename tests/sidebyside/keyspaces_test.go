package sidebyside

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// The tests of this file run the other tests against keyspaces of one standalone process. Each server under test is a
// keyspace of that process, beside busy keyspaces. All pairs of a run are in the process at the same time, each with an
// etcd of its own, and their sequences use the same keys and lease ids. What the clients of one keyspace see must not
// depend on the clients of another.

const (
	keyspaceDomain = "etcd.test"
	// busyKeyspaces is how many keyspaces there are beside those under test. busyPause is the pause between two of
	// their writes. So there is always other work, and the tests still get most of the processor.
	busyKeyspaces = 50
	busyPause     = 5 * time.Millisecond
	// keyspaceSequences bounds the random sequences. They are enough to have every kind of request in several
	// keyspaces at the same time.
	keyspaceSequences = 60
	keyspaceWorkers   = 3
	keyspaceDuration  = 10 * time.Second
)

// shared is a standalone process whose keyspaces are servers under test.
type shared struct {
	*compose.Server
	admin adminv1.KeyspacesClient

	mu   sync.Mutex
	made int
}

func init() {
	suts["keyspaces"] = func(tb testing.TB) starter {
		tb.Helper()
		s, err := startShared(tb)
		if err != nil {
			tb.Fatal(err)
		}
		return s.target
	}
}

// startShared starts the process and its busy keyspaces. They end with the test.
func startShared(tb testing.TB) (*shared, error) {
	tb.Helper()
	server := standalone.Start(tb, func(c *config.Config) {
		c.KeyspaceDomain, c.CacheBytes = keyspaceDomain, storeCacheBytes
		c.ListenAdminURLs = []string{"http://127.0.0.1:0"}
	})
	s := &shared{Server: server}
	conn, err := dialServer(server.AdminURLs()[0][len("http://"):])
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { conn.Close() })
	s.admin = adminv1.NewKeyspacesClient(conn)
	for i := range busyKeyspaces {
		if _, err := s.admin.Create(tb.Context(), &adminv1.CreateRequest{Name: fmt.Sprint("busy", i)}); err != nil {
			return nil, err
		}
	}
	return s, s.keepBusy(tb)
}

// keepBusy writes, reads, watches and grants leases in the busy keyspaces until the end of the test. It uses the keys
// and lease ids of the sequences.
func (s *shared) keepBusy(tb testing.TB) error {
	tb.Helper()
	var conns [busyKeyspaces]*grpc.ClientConn
	for i := range conns {
		var err error
		if conns[i], err = dialServer(s.Addr(), s.authority(fmt.Sprint("busy", i))); err != nil {
			return err
		}
		tb.Cleanup(func() { conns[i].Close() })
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- busy(ctx, conns[:]) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Errorf("a busy keyspace: %v", err)
		}
	})
	return nil
}

func busy(ctx context.Context, conns []*grpc.ClientConn) error {
	tick := time.NewTicker(busyPause)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		conn := conns[n%len(conns)]
		kv, key := pb.NewKVClient(conn), fmt.Append(nil, string(rune('a'+n%7)))
		var err error
		switch (n / len(conns)) % 4 {
		case 0:
			_, err = pb.NewLeaseClient(conn).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: int64(1 + n%5), TTL: 1000})
			if err != nil && ctx.Err() == nil { // the lease may exist since the round before
				_, err = pb.NewLeaseClient(conn).LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: int64(1 + n%5)})
			}
		case 1:
			_, err = kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("d")})
		case 2:
			_, err = kv.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
		default:
			_, err = kv.Put(ctx, &pb.PutRequest{Key: key, Value: []byte("another's")})
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// Addr is the address to which clients of all keyspaces connect.
func (s *shared) Addr() string { return s.URL()[len("http://"):] }

func (s *shared) authority(name string) grpc.DialOption {
	return grpc.WithAuthority(name + "." + keyspaceDomain)
}

// target makes a keyspace and returns it as a server of its own.
func (s *shared) target() (*Target, error) {
	s.mu.Lock()
	s.made++
	k := &keyspaceServer{shared: s, name: fmt.Sprint("sut", s.made)}
	s.mu.Unlock()
	if _, err := s.admin.Create(context.Background(), &adminv1.CreateRequest{Name: k.name}); err != nil {
		return nil, err
	}
	return newTarget("headwater", k, k.restart, []grpc.DialOption{s.authority(k.name)})
}

// keyspaceServer is a keyspace as a server.
type keyspaceServer struct {
	*shared
	name  string
	limit uint64
}

// Remove deletes the keyspace. Its data are cleared in the background.
func (k *keyspaceServer) Remove() {
	// It does no harm if the keyspace stays.
	_, _ = k.admin.Delete(context.Background(), &adminv1.DeleteRequest{Name: k.name})
}

// restart closes the keyspace by changing a limit. The first call opens it again.
func (k *keyspaceServer) restart() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	k.limit++
	if _, err := k.admin.Change(ctx, &adminv1.ChangeRequest{
		Name: k.name, Settings: &adminv1.Settings{Limits: &keyspacev1.Limits{Watches: 1<<20 + k.limit}},
		Mask: &fieldmaskpb.FieldMask{Paths: []string{"limits.watches"}},
	}); err != nil {
		return err
	}
	for {
		u, err := k.admin.Usage(ctx, &adminv1.UsageRequest{Names: []string{k.name}})
		if err != nil {
			return err
		}
		if !u.GetUsage()[0].GetActive() {
			return nil
		}
		if ctx.Err() != nil {
			return errors.New("the keyspace has not been closed")
		}
	}
}

// sharedProcess returns keyspaces as servers under test. It skips the test if -sut names something else.
func sharedProcess(t *testing.T) starter {
	t.Helper()
	if *sutName != "headwater" {
		t.Skipf("-sut %s was asked for", *sutName)
	}
	t.Parallel()
	return sutNamed(t, "keyspaces")
}

// TestKeyspacesRandom compares random sequences in several keyspaces at once, each with an etcd of its own.
func TestKeyspacesRandom(t *testing.T) {
	under := sharedProcess(t)
	r := &Runner{
		NewPair: func() (*Pair, error) { return NewPair(under) }, Seed: runSeed(), Count: keyspaceSequences,
		Workers: keyspaceWorkers, Until: time.Now().Add(keyspaceDuration),
	}
	t.Logf("seed %d", r.Seed)
	failures, err := r.Run()
	t.Log(r.Summary())
	for _, f := range failures {
		t.Errorf("%s", f)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeyspacesConcurrent compares what several concurrent clients of a keyspace see and leave behind.
func TestKeyspacesConcurrent(t *testing.T) { compareConcurrent(t, sharedProcess(t), 1) }

// TestKeyspacesCases replays some of the kept cases; -sut keyspaces replays all of them.
func TestKeyspacesCases(t *testing.T) {
	const part = 8
	under, first := sharedProcess(t), runSeed()
	t.Logf("seed %d", first)
	var some []Case
	for i, c := range keptCases(t) {
		if (uint64(i)+first)%part == 0 {
			some = append(some, c)
		}
	}
	runCases(t, under, some)
}
