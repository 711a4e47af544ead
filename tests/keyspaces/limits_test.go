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
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/headwaterdb/headwater/libs/compose"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// limits creates a keyspace with limits and one without, and returns a function that changes the limits.
func limits(t *testing.T, s *compose.Server, l *keyspacev1.Limits) (
	small, free *clientv3.Client, set func(*keyspacev1.Limits),
) {
	t.Helper()
	a := adminOf(t, s)
	for name, l := range map[string]*keyspacev1.Limits{"small": l, "free": nil} {
		_, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: name, Settings: &adminv1.Settings{Limits: l}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return client(t, s, "small"), client(t, s, "free"), func(l *keyspacev1.Limits) {
		t.Helper()
		_, err := a.Change(t.Context(), &adminv1.ChangeRequest{
			Name: "small", Settings: &adminv1.Settings{Limits: l},
			Mask: &fieldmaskpb.FieldMask{Paths: []string{"limits"}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// until calls f until it returns neither a temporary error nor the old error.
func until(t *testing.T, old error, f func() error) (err error) {
	t.Helper()
	eventually(t, "another outcome", func() bool {
		err = f()
		return err == nil || !errors.Is(err, old) && code(err) != codes.Unavailable
	})
	return err
}

// disarm waits for the alarm NOSPACE and clears it. The settings of the keyspace must not have changed since the
// refusal. A change closes the keyspace, perhaps before it has raised its alarm.
func disarm(t *testing.T, c *clientv3.Client) {
	t.Helper()
	eventually(t, "the alarm NOSPACE", func() bool { // it comes after the refusal
		r, err := c.AlarmList(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Alarms) > 0
	})
	if _, err := c.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
}

// untilSpace calls f until it is not refused for lack of space any more. It clears the alarm if there is one: the limit
// before may have raised it, perhaps late.
func untilSpace(t *testing.T, c *clientv3.Client, f func() error) error {
	t.Helper()
	return until(t, rpctypes.ErrNoSpace, func() error {
		err := f()
		if errors.Is(err, rpctypes.ErrNoSpace) {
			_, failed := c.AlarmDisarm(t.Context(), &clientv3.AlarmMember{})
			// Unavailable: the keyspace is being opened with its new limit.
			if failed != nil && code(failed) != codes.Unavailable {
				t.Fatal(failed)
			}
		}
		return err
	})
}

// TestLimitKeys: a keyspace at its limit of keys refuses new keys, also in transactions, and the alarm is its own. Once
// that is cleared, clients can replace and delete keys. A changed limit applies at once.
func TestLimitKeys(t *testing.T) {
	s := server(t, nil)
	small, free, set := limits(t, s, &keyspacev1.Limits{Keys: 5})
	for i := range 4 {
		put(t, small, fmt.Sprint(i), "v")
	}
	two := func(c *clientv3.Client) error {
		_, err := c.Txn(t.Context()).Then(clientv3.OpPut("4", "v"), clientv3.OpPut("5", "v")).Commit()
		return err
	}
	if err := two(small); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Error("two keys where there is room for one:", err)
	}
	disarm(t, small)
	put(t, small, "4", "v")
	put(t, small, "4", "w") // replaces
	if _, err := small.Put(t.Context(), "5", "v"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Error("the sixth key:", err)
	}
	if r, err := free.AlarmList(t.Context()); err != nil || len(r.Alarms) != 0 {
		t.Error("an alarm of another keyspace:", r, err)
	}
	for i := range 10 {
		put(t, free, fmt.Sprint(i), "v")
	}
	disarm(t, small)
	if _, err := small.Delete(t.Context(), "0", clientv3.WithRange("2")); err != nil {
		t.Fatal(err)
	}
	if err := two(small); err != nil { // key 4 exists
		t.Error(err)
	}
	put(t, small, "6", "v")
	if _, err := small.Put(t.Context(), "7", "v"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Error("the sixth key after deletes:", err)
	}
	disarm(t, small)
	set(&keyspacev1.Limits{Keys: 6})
	if err := untilSpace(t, small, func() error {
		_, err := small.Put(t.Context(), "7", "v")
		return err
	}); err != nil {
		t.Error("after the limit was raised:", err)
	}
	// The count is right even after the keyspace has been opened again.
	if _, err := small.Put(t.Context(), "8", "v"); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Error("above the raised limit:", err)
	}
}

// TestLimitLeases: of many concurrent grants as many succeed as the limit allows. A lease that ends makes room for
// another.
func TestLimitLeases(t *testing.T) {
	const bound = 10
	s := server(t, nil)
	small, free, set := limits(t, s, &keyspacev1.Limits{Leases: bound})
	var granted, refused atomic.Int64
	var one atomic.Int64
	var wg sync.WaitGroup
	for range 3 * bound {
		wg.Go(func() {
			switch r, err := small.Grant(t.Context(), 1000); {
			case err == nil:
				granted.Add(1)
				one.Store(int64(r.ID))
			case errors.Is(err, rpctypes.ErrTooManyRequests):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if granted.Load() != bound || refused.Load() != 2*bound {
		t.Errorf("%d leases were granted, %d refused", granted.Load(), refused.Load())
	}
	for range bound + 1 {
		if _, err := free.Grant(t.Context(), 1000); err != nil {
			t.Error("another keyspace:", err)
		}
	}
	if _, err := small.Grant(t.Context(), 1000); !errors.Is(err, rpctypes.ErrTooManyRequests) {
		t.Error("one more:", err)
	}
	if _, err := small.Revoke(t.Context(), clientv3.LeaseID(one.Load())); err != nil {
		t.Fatal(err)
	}
	if _, err := small.Grant(t.Context(), 1000); err != nil {
		t.Error("after a revoke:", err)
	}
	set(&keyspacev1.Limits{Leases: bound + 1})
	grant := func() error { _, err := small.Grant(t.Context(), 1000); return err }
	if err := until(t, rpctypes.ErrTooManyRequests, grant); err != nil {
		t.Error("after the limit was raised:", err)
	}
	if err := until(t, nil, grant); !errors.Is(err, rpctypes.ErrTooManyRequests) {
		t.Error("above the raised limit:", err)
	}
}

// TestLimitRequestBytes: a request that is larger than the keyspace's limit is refused in that keyspace alone. A limit
// above the server's own has no effect.
func TestLimitRequestBytes(t *testing.T) {
	s := server(t, nil)
	small, free, set := limits(t, s, &keyspacev1.Limits{RequestBytes: 10_000})
	write := func(c *clientv3.Client, n int) error {
		_, err := c.Put(t.Context(), "k", strings.Repeat("v", n))
		return err
	}
	if err := write(small, 9_000); err != nil {
		t.Error(err)
	}
	if err := write(small, 11_000); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Error("above the limit:", err)
	}
	if err := write(free, 1_000_000); err != nil {
		t.Error("another keyspace:", err)
	}
	set(&keyspacev1.Limits{RequestBytes: 1 << 40})
	if err := until(t, rpctypes.ErrRequestTooLarge, func() error { return write(small, 1_000_000) }); err != nil {
		t.Error("after the limit was raised:", err)
	}
	if err := write(small, 1_700_000); !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		t.Error("above the server's own bound:", err)
	}
}

// TestLimitRates: calls above a rate are refused, calls of the other kind are not, and a changed rate applies.
func TestLimitRates(t *testing.T) {
	s := server(t, nil)
	small, free, set := limits(t, s, &keyspacev1.Limits{ReadsPerSecond: 1, Streams: 1})
	put(t, small, "k", "v")
	put(t, free, "k", "v")
	read := func() error { _, err := small.Get(t.Context(), "k"); return err }
	var err error
	for err == nil {
		err = read()
	}
	if !errors.Is(err, rpctypes.ErrTooManyRequests) {
		t.Error("above the limit of reads:", err)
	}
	for i := range 20 {
		put(t, small, "k", fmt.Sprint(i))
		get(t, free, "k")
	}
	set(nil)
	for range 20 {
		if err := until(t, rpctypes.ErrTooManyRequests, read); err != nil {
			t.Error("without a limit:", err)
		}
	}
}

// TestWeight: a change of weight, while the keyspace is in use, ends none of its streams.
func TestWeight(t *testing.T) {
	s := server(t, nil)
	small, _, set := limits(t, s, &keyspacev1.Limits{Watches: 5})
	watch := small.Watch(t.Context(), "k")
	for weight := range uint32(5) {
		if _, err := adminOf(t, s).Change(t.Context(), &adminv1.ChangeRequest{
			Name: "small", Settings: &adminv1.Settings{Weight: weight},
			Mask: &fieldmaskpb.FieldMask{Paths: []string{"weight"}},
		}); err != nil {
			t.Fatal(err)
		}
		put(t, small, "k", fmt.Sprint(weight))
		if r := <-watch; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != fmt.Sprint(weight) || r.Err() != nil {
			t.Fatal(r)
		}
	}
	set(&keyspacev1.Limits{Watches: 6})
}
