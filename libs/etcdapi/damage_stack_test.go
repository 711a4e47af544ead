package etcdapi_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
)

// TestDamageOverTheAPI: every operation of the API that needs a damaged row fails with DataLoss at once, and its
// sibling that does not need it succeeds; the alarm CORRUPT is up. All through clientv3, which would try again what
// it takes for passing.
func TestDamageOverTheAPI(t *testing.T) {
	leakCheck(t)
	var e *faults.Store
	fs := vfs.NewMem()
	wrap := func(inner engine.Store) engine.Store {
		e = faults.New(inner, faults.Options{KeepPipelined: true})
		return e
	}
	s := startStackOn(t, fs, wrap)
	c := s.client
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	hit, other := mustGrant(t, c, 1000), mustGrant(t, c, 1000)
	for range 2 {
		for i := range 10 {
			o := clientv3.WithLease(other)
			if i == 5 {
				o = clientv3.WithLease(hit)
			}
			if _, err := c.Put(ctx, fmt.Sprintf("k%d", i), "v", o); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.Damage([]byte("ik5"), []byte("ik6"))

	lock := func(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }
	for _, op := range []struct {
		name string
		run  func(key string) error
	}{
		{"Range", func(k string) error { _, err := c.Get(ctx, k); return err }},
		{"list", func(k string) error { _, err := c.Get(ctx, k, clientv3.WithPrefix()); return err }},
		{"count", func(k string) error {
			_, err := c.Get(ctx, k, clientv3.WithPrefix(), clientv3.WithCountOnly())
			return err
		}},
		{"Put", func(k string) error { _, err := c.Put(ctx, k, "w", clientv3.WithPrevKV()); return err }},
		{"compare", func(k string) error {
			_, err := c.Txn(ctx).If(lock(k)).Then(clientv3.OpPut("x", "")).Commit()
			return err
		}},
		{"Txn", func(k string) error {
			_, err := c.Txn(ctx).Then(clientv3.OpPut("x", ""), clientv3.OpGet(k, clientv3.WithPrefix())).Commit()
			return err
		}},
		{"Txn of reads", func(k string) error { _, err := c.Txn(ctx).Then(clientv3.OpGet(k)).Commit(); return err }},
		{"DeleteRange", func(k string) error { _, err := c.Delete(ctx, k, clientv3.WithPrefix()); return err }},
	} {
		err := op.run("k5")
		if s := status.Convert(err); s.Code() != codes.DataLoss || !strings.Contains(s.Message(), `"k5"`) ||
			!strings.Contains(s.Message(), faults.DamagedFile) {
			t.Errorf("%s of k5: %v", op.name, err)
		}
		if err := op.run("k6"); err != nil {
			t.Errorf("%s of k6: %v", op.name, err)
		}
	}
	for name, err := range map[string]error{
		"LeaseRevoke": func() error { _, err := c.Revoke(ctx, hit); return err }(),
		"HashKV":      func() error { _, err := pb.NewMaintenanceClient(s.conn).HashKV(ctx, &pb.HashKVRequest{}); return err }(),
		"Hash":        func() error { _, err := pb.NewMaintenanceClient(s.conn).Hash(ctx, &pb.HashRequest{}); return err }(),
	} {
		if status.Code(err) != codes.DataLoss {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"TimeToLive": func() error { _, err := c.TimeToLive(ctx, hit, clientv3.WithAttachedKeys()); return err }(),
		"KeepAlive":  func() error { _, err := c.KeepAliveOnce(ctx, hit); return err }(),
		"Leases":     func() error { _, err := c.Leases(ctx); return err }(),
		"Revoke":     func() error { _, err := c.Revoke(ctx, other); return err }(),
		"Defragment": func() error {
			_, err := pb.NewMaintenanceClient(s.conn).Defragment(ctx, &pb.DefragmentRequest{})
			return err
		}(),
		"Status": func() error { _, err := pb.NewMaintenanceClient(s.conn).Status(ctx, &pb.StatusRequest{}); return err }(),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for {
		a, err := c.AlarmList(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Alarms) == 1 && a.Alarms[0].Alarm == pb.AlarmType_CORRUPT && a.Alarms[0].MemberID == 2 {
			break
		}
	}

	// History, after a restart, when memory has none of it: the watch that needs it ends, the one beside it on the
	// same stream goes on. The removal that meets it tells who waits for it.
	s.stop()
	s = startStackOn(t, fs, wrap)
	c = s.client
	e.Damage([]byte("l"), append(append([]byte("l"), engine.Stamp{Version: 8}.Append(nil)...), 0))
	w := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(3))
	live := c.Watch(ctx, "live", clientv3.WithCreatedNotify())
	<-live
	if r, ok := <-w; ok && r.Err() == nil {
		t.Errorf("a watch over damaged history: %+v", r)
	}
	if _, err := c.Put(ctx, "live", "v"); err != nil {
		t.Fatal(err)
	}
	if r := <-live; len(r.Events) != 1 {
		t.Errorf("the watch beside it: %+v %v", r, r.Err())
	}
	r, err := c.Get(ctx, "live")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(ctx, r.Header.Revision-1,
		clientv3.WithCompactPhysical()); status.Code(err) != codes.DataLoss {
		t.Errorf("physical compaction: %v", err)
	}
	if _, err := c.Put(ctx, "live", "w"); err != nil {
		t.Error(err)
	}
}
