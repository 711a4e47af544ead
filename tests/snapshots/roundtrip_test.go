package snapshots

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	clientsnapshot "go.etcd.io/etcd/client/v3/snapshot"
	utlsnapshot "go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/snapshot"
	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

// save fetches a snapshot as etcdctl does, and checks it with etcdutl.
func save(t *testing.T, endpoint string, revision int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err := clientsnapshot.SaveWithVersion(ctx, zap.NewNop(), clientv3.Config{Endpoints: []string{endpoint}}, path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := utlsnapshot.NewV3(zap.NewNop()).Status(path)
	if err != nil || revision > 0 && st.Revision != revision {
		t.Fatalf("etcdutl: %+v, %v; want revision %d", st, err, revision)
	}
	return path
}

// etcdOf starts an etcd, an empty one or one on a snapshot.
func etcdOf(t *testing.T, path string) string {
	t.Helper()
	start := func() (*refetcd.Server, error) { return refetcd.Start() }
	if path != "" {
		dir := filepath.Join(t.TempDir(), "etcd")
		err := utlsnapshot.NewV3(zap.NewNop()).Restore(utlsnapshot.RestoreConfig{
			SnapshotPath: path, Name: "default", OutputDataDir: dir, PeerURLs: []string{refetcd.PeerURL},
			InitialCluster: "default=" + refetcd.PeerURL, InitialClusterToken: "etcd-cluster",
		})
		if err != nil {
			t.Fatal(err)
		}
		start = func() (*refetcd.Server, error) { return refetcd.Open(dir) }
	}
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Remove)
	return s.Addr()
}

// headwaterOf starts a headwater, an empty one or one on a snapshot.
func headwaterOf(t *testing.T, path string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "headwater")
	if path != "" {
		r, err := snapshot.Open(t.Context(), path, false)
		if err != nil {
			t.Fatal(err)
		}
		_, err = datadir.Restore(t.Context(), r, dir, snapshot.RestoreOptions{})
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s := hw.Run(t, hw.Headwater(t), dir, "--disk-reserve-bytes=-1", "--bcrypt-cost=4")
	return strings.TrimPrefix(s.Endpoint(), "http://")
}

// fill sends random requests, with a compaction in between. After the compaction versions from several requests are
// left.
func fill(t *testing.T, c *clientv3.Client, seed uint64, single bool) (compact int64) {
	t.Helper()
	g := &traffic{Rand: rand.New(rand.NewPCG(seed, 0)), c: c}
	for range 60 {
		g.step(t, single)
	}
	now, err := c.Put(t.Context(), "before", "compaction")
	if err != nil {
		t.Fatal(err)
	}
	compact = now.Header.Revision - 5
	if _, err := c.Compact(t.Context(), compact, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		g.step(t, false)
	}
	if _, err := c.Put(t.Context(), "last", "one"); err != nil { // the event at which a watch ends
		t.Fatal(err)
	}
	return compact
}

// TestRoundTrips: from headwater to etcd and back, and the other way round, clients read the same.
func TestRoundTrips(t *testing.T) {
	seed := rand.Uint64N(1 << 32)
	t.Logf("seed %d", seed)
	starts := []func(*testing.T, string) string{headwaterOf, etcdOf, headwaterOf, etcdOf}
	for name, trip := range map[string]struct {
		hops   []func(*testing.T, string) string
		single bool // because etcd's order within compacted revisions is not kept
	}{
		"headwater to etcd to headwater": {starts[:3], false},
		"etcd to headwater to etcd":      {starts[1:], true},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := trip.hops[0](t, "")
			c := dial(t, endpoint)
			compact := fill(t, c, seed, trip.single)
			want := pictureOf(t, c, compact)
			now, err := c.Get(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			for i, hop := range trip.hops[1:] {
				endpoint = hop(t, save(t, endpoint, now.Header.Revision))
				c = dial(t, endpoint)
				same(t, []string{"after the first move", "after the second move"}[i], want, pictureOf(t, c, compact))
			}
			put, err := c.Put(t.Context(), "next", "one")
			if err != nil || put.Header.Revision != now.Header.Revision+1 {
				t.Errorf("the next revision is %v, %v", put, err)
			}
		})
	}
}
