package formats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

const (
	// endingFixture is the dump of a keyspace with a lease that is ending. Its keeper has died between two steps.
	endingFixture = "lease-ending"

	leaseEnding     = 77
	leaseEndingKeys = 60
	// smallTxn is so small that even a few keys are too many for one transaction.
	smallTxn = 4096
)

func endingFile() string { return filepath.Join("testdata", endingFixture+".rows.gz") }

// small is an engine whose limits say that transactions must be small.
type small struct{ engine.Store }

func (s small) Limits() engine.Limits {
	l := s.Store.Limits()
	l.TxnBytes = smallTxn
	return l
}

// TestWriteLeaseFixture writes the fixture with -write-fixtures, and is skipped otherwise.
func TestWriteLeaseFixture(t *testing.T) {
	if !*writeFlag {
		t.Skip("SKIPPED: it writes the fixtures, and runs only with -write-fixtures")
	}
	ctx := t.Context()
	e := testengine.Open(t, 1)
	k, err := keyspace.Open(ctx, e, []byte(config.DefaultRoot), config.DefaultKeyspace)
	if err != nil {
		t.Fatal(err)
	}
	s, err := mvcc.Open(ctx, small{e}, mvcc.Options{
		Prefix: k.Prefix, Features: mvcc.FeatureValues | mvcc.FeatureSizes | mvcc.FeatureLeaseSteps, NoRemoval: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.LeaseGrant(ctx, leaseEnding, leaseTTL, nil); err != nil {
		t.Fatal(err)
	}
	for i := range leaseEndingKeys {
		_, err := s.Put(ctx, &mvcc.PutRequest{
			Key: fmt.Appendf(nil, "on/%03d", i), Value: []byte("value"), Lease: leaseEnding,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.LeaseRevoke(ctx, leaseEnding, nil); !errors.Is(err, mvcc.ErrLeaseEnding) {
		t.Fatal(err)
	}
	if _, done, err := s.LeaseRevokeStep(ctx, leaseEnding, nil); done || err != nil {
		t.Fatal(done, err)
	}
	if err := errors.Join(s.Close(), dump(ctx, e, endingFile())); err != nil {
		t.Fatal(err)
	}
}

// TestLeaseEnding: pods finish the end of a lease that other pods have begun.
func TestLeaseEnding(t *testing.T) {
	testengine.NeedsPebble(t, "the rows hold versions of another cluster")
	t.Parallel()
	e := testengine.Open(t, 1)
	if err := restore(t.Context(), e, endingFile()); err != nil {
		t.Fatal(err)
	}
	if n := leaseRows(t, e); n.ending != 1 || n.keys == 0 || n.keys >= leaseEndingKeys {
		t.Fatalf("the fixture has %+v", n)
	}
	b := bus.NewLocal()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	d := pods.New(t, compose.Parts{Engine: e, Bus: b}, 1)
	if err := d.StartAll(limited(t)); err != nil {
		t.Fatal(err)
	}
	ctx, c := limited(t), client(t, d.Addr(config.KV, 0))
	_, err := c.KeepAliveOnce(ctx, leaseEnding)
	for ; errors.Is(err, io.EOF) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) { // not connected yet
		_, err = c.KeepAliveOnce(ctx, leaseEnding)
	}
	if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("a keep-alive of a lease that is ending: %v", err)
	}
	if _, err := c.Put(ctx, "new", "", clientv3.WithLease(leaseEnding)); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("a put on a lease that is ending: %v", err)
	}
	for left := int64(1); left > 0; time.Sleep(10 * time.Millisecond) {
		r, err := c.Get(ctx, "on/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatal(err)
		}
		left = r.Count
	}
	for n := leaseRows(t, e); n != (leaseCount{}); n = leaseRows(t, e) {
		if ctx.Err() != nil {
			t.Fatalf("left are %+v", n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestLeaseEndingRefused: the previous release does not misread such a row, but refuses the keyspace.
func TestLeaseEndingRefused(t *testing.T) {
	testengine.NeedsPebble(t, "the rows hold versions of another cluster")
	t.Parallel()
	program := oldPods(t)
	e := testengine.Open(t, 1)
	if err := restore(t.Context(), e, endingFile()); err != nil {
		t.Fatal(err)
	}
	d := deploy(t, e, []string{"a"})
	said := refusal(t, program, d.args("a")(hw.Layout{ClientURL: "http://127.0.0.1:0"})...)
	if !strings.Contains(said, "format 2") || !strings.Contains(said, "knows 1") {
		t.Errorf("a pod of the previous release that starts reports %q", said)
	}
}

// leaseCount is how many rows of leases there are.
type leaseCount struct{ good, ending, keys int }

func leaseRows(t *testing.T, e engine.Store) (n leaseCount) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	k, err := keyspace.Open(ctx, e, []byte(config.DefaultRoot), config.DefaultKeyspace)
	if err != nil {
		t.Fatal(err)
	}
	const ttlBytes = 8
	count := func(table byte, f func(key, value []byte) bool) int {
		n, err := rowsOf(ctx, e, k.Prefix, table, f)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n.good = count('e', func(_, value []byte) bool { return len(value) == ttlBytes })
	n.ending = count('e', func(_, value []byte) bool { return len(value) == ttlBytes+1 && value[ttlBytes] == 1 })
	n.keys = count('k', func(_, _ []byte) bool { return true })
	return n
}
