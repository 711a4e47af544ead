package pods

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	ServeChild()
	code := m.Run()
	hw.Cleanup()
	os.Exit(leaktest.Code(code, testengine.IgnoreThreads()))
}

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// TestProcess: after a kill and after a stop all writes and leases are there, and watches go on.
func TestProcess(t *testing.T) {
	s := hw.Run(t, NewProcess(t).Program, t.TempDir(), "--watch-progress-notify-interval=200ms")
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lease, err := c.Grant(ctx, int64(patience/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	events := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(1))
	for i, end := range []func() error{s.Kill, s.Stop} {
		key := fmt.Sprint("k", i)
		if _, err := c.Put(ctx, key, "v", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Get(ctx, "k", clientv3.WithPrefix()); err != nil || r.Count != int64(i+1) {
			t.Errorf("after end %d: %v, %v", i, r, err)
		}
		if r := <-events; len(r.Events) != 1 || string(r.Events[0].Kv.Key) != key {
			t.Errorf("after end %d: events %v, %v", i, r.Events, r.Err())
		}
	}
	if r, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys()); err != nil || len(r.Keys) != 2 {
		t.Errorf("the lease: %v, %v", r, err)
	}
}
