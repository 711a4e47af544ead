package keyspaces

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// limit sets the limits of a keyspace, through one pod.
func (d *deployment) limit(name string, l *keyspacev1.Limits) {
	d.t.Helper()
	_, err := adminOf(d.t, d.pod(config.KV, 0)).Change(d.t.Context(), &adminv1.ChangeRequest{
		Name: name, Settings: &adminv1.Settings{Limits: l}, Mask: &fieldmaskpb.FieldMask{Paths: []string{"limits"}},
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// cleared waits for the alarm NOSPACE, clears it, and waits until all kv pods accept writes again.
func (d *deployment) cleared(cs []*clientv3.Client) {
	d.t.Helper()
	disarm(d.t, cs[0])
	d.writable(cs)
}

// writable clears the alarm NOSPACE, if there is one, and waits until all kv pods accept writes.
func (d *deployment) writable(cs []*clientv3.Client) {
	d.t.Helper()
	for _, c := range cs {
		// A pod learns within a second that another has raised or cleared an alarm. "there" replaces an
		// existing key.
		if err := untilSpace(d.t, cs[0], func() error {
			_, err := c.Put(d.t.Context(), "there", "")
			return err
		}); err != nil {
			d.t.Fatal(err)
		}
	}
}

// all calls f many times at once, through each of the clients. It counts how often f succeeded, and how often it was
// refused with the expected error.
func all(
	t *testing.T, cs []*clientv3.Client, n int, right error, f func(c *clientv3.Client, i int) error,
) (ok, refused int) {
	t.Helper()
	var went, not atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			switch err := f(cs[i%len(cs)], i); {
			case err == nil:
				went.Add(1)
			case errors.Is(err, right):
				not.Add(1)
			default:
				t.Error(i, err)
			}
		})
	}
	wg.Wait()
	return int(went.Load()), int(not.Load())
}

// TestPodsLimits: through all pods together a keyspace gets no more keys, leases and bytes than its limits allow, and
// the alarm is its own. A changed limit applies in all pods.
func TestPodsLimits(t *testing.T) {
	t.Parallel() // it waits for most of its time
	const keys, leases = 20, 5
	d := deploy(t, 2, nil)
	ctx := d.context()
	d.create("free")
	if _, err := adminOf(t, d.pod(config.KV, 0)).Create(ctx, &adminv1.CreateRequest{
		Name: "small", Settings: &adminv1.Settings{
			Limits: &keyspacev1.Limits{Keys: keys, Leases: leases, RequestBytes: 10_000},
		},
	}); err != nil {
		t.Fatal(err)
	}
	var cs []*clientv3.Client // through every kv pod, and through pods that relay
	for _, k := range pods.Kinds {
		for i := range 2 {
			cs = append(cs, d.client(k, i, "small"))
		}
	}
	put(t, cs[0], "there", "")
	grant := func(c *clientv3.Client, _ int) error { _, err := c.Grant(ctx, 1000); return err }
	if ok, refused := all(t, cs, 3*leases, rpctypes.ErrTooManyRequests, grant); ok != leases || refused != 2*leases {
		t.Errorf("%d leases were granted, %d refused", ok, refused)
	}
	write := func(c *clientv3.Client, i int) error { _, err := c.Put(ctx, fmt.Sprint("k", i), "v"); return err }
	if ok, _ := all(t, cs, 3*keys, rpctypes.ErrNoSpace, write); ok != keys-1 {
		t.Errorf("%d keys were created besides the first, want %d", ok, keys-1)
	}
	d.cleared(cs)
	if r, err := cs[1].Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly()); err != nil || r.Count != keys {
		t.Error("keys:", r, err)
	}
	for i, c := range cs {
		if _, err := c.Put(ctx, "there", strings.Repeat("v", 11_000)); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
			t.Errorf("a large request through pod %d: %v", i, err)
		}
	}
	free := d.client(config.WatchHub, 1, "free")
	for i := range keys + 1 {
		put(t, free, fmt.Sprint(i), strings.Repeat("v", 11_000))
		if err := grant(free, 0); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := free.AlarmList(ctx); err != nil || len(r.Alarms) != 0 {
		t.Error("an alarm of another keyspace:", r, err)
	}

	d.limit("small", &keyspacev1.Limits{Keys: keys + 4, Leases: leases + 1})
	for i, c := range cs[:4] {
		if err := untilSpace(t, cs[0], func() error { return write(c, 1000+i) }); err != nil {
			t.Errorf("pod %d, after the limit was raised: %v", i, err)
		}
	}
	if ok, _ := all(t, cs, len(cs), rpctypes.ErrNoSpace, func(c *clientv3.Client, i int) error {
		return until(t, nil, func() error { return write(c, 2000+i) })
	}); ok != 0 {
		t.Errorf("%d keys above the raised limit", ok)
	}
	d.cleared(cs)
	if err := until(t, rpctypes.ErrTooManyRequests, func() error {
		// Lease keepers learn of a changed limit within a second too.
		return untilSpace(t, cs[0], func() error { return grant(cs[2], 0) })
	}); err != nil {
		t.Error("a lease after the limit was raised:", err)
	}
	d.bytes("small", cs)
}

// bytes fills a keyspace up to a limit of bytes through one pod after the other.
func (d *deployment) bytes(name string, cs []*clientv3.Client) {
	d.t.Helper()
	const limit, size = 200_000, 20_000
	d.limit(name, &keyspacev1.Limits{Bytes: limit})
	for _, c := range cs {
		eventually(d.t, "the pod shows the quota", func() bool { // until then the pod accepts everything
			r, err := c.Status(d.t.Context(), c.Endpoints()[0])
			if err != nil && code(err) != codes.Unavailable {
				d.t.Fatal(err)
			}
			return err == nil && r.DbSizeQuota == limit
		})
	}
	n := 0
	for refused := 0; refused < len(cs); { // until all pods in a row refuse
		err := until(d.t, nil, func() error {
			_, err := cs[(n/size+refused)%len(cs)].Put(d.t.Context(), "there", strings.Repeat("v", size))
			return err
		})
		switch {
		case errors.Is(err, rpctypes.ErrNoSpace) && n < limit/2: // another pod has raised the earlier alarm late
			d.writable(cs)
		case errors.Is(err, rpctypes.ErrNoSpace):
			refused++
		case err != nil:
			d.t.Fatal(err)
		default:
			refused = 0
			if n += size; n > limit {
				d.t.Fatal("no pod refuses the request")
			}
		}
	}
}

// TestPodsSettings: every limit and the weight can be set for a keyspace that all pods serve. Pods obey none for a
// keyspace that they have to themselves, so the admin API refuses to set one.
func TestPodsSettings(t *testing.T) {
	d := deploy(t, 1, nil)
	d.create("there")
	if _, err := keyspace.Open(t.Context(), d.eng, []byte(config.DefaultRoot), "own"); err != nil {
		t.Fatal(err)
	}
	a := adminOf(t, d.pod(config.KV, 0))
	set := func(name string, s *adminv1.Settings, path string) error {
		_, err := a.Change(t.Context(), &adminv1.ChangeRequest{
			Name: name, Settings: s, Mask: &fieldmaskpb.FieldMask{Paths: []string{path}},
		})
		return err
	}
	fields := (*keyspacev1.Limits)(nil).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		l := new(keyspacev1.Limits)
		l.ProtoReflect().Set(fields.Get(i), protoreflect.ValueOfUint64(1<<20))
		path := "limits." + string(fields.Get(i).Name())
		for name, want := range map[string]codes.Code{
			"there": codes.OK, "own": codes.InvalidArgument, config.DefaultKeyspace: codes.InvalidArgument,
		} {
			wantCode(t, path+" of "+name, set(name, &adminv1.Settings{Limits: l}, path), want)
		}
	}
	weight := &adminv1.Settings{Weight: 2}
	wantCode(t, "weight", set("there", weight, "weight"), codes.OK)
	wantCode(t, "weight of one's own", set("own", weight, "weight"), codes.InvalidArgument)
	labels := &adminv1.Settings{Labels: map[string]string{"a": "b"}}
	wantCode(t, "labels of one's own", set("own", labels, "labels.a"), codes.OK)
}
