package lease

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

var errDamage = &mvcc.Damage{What: "a row", Err: mvcc.ErrCorrupt}

// TestDamagedLease: a lease that damaged data keeps from being revoked holds up nobody: others expire in time, lists
// and times to live are answered, a renewal is told so and does not make it good again, a revoke of a client too; it
// is tried again slowly, and goes when the damage is gone.
func TestDamagedLease(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		var revokes atomic.Int64
		s.setFail(func(op string, id int64) (error, bool) {
			if op == "revoke" && id == 1 {
				revokes.Add(1)
				return errDamage, false
			}
			return nil, true
		})
		grant(t, k, 1, 2)
		grant(t, k, 2, 100)
		time.Sleep(3 * time.Second)
		if revokes.Load() != 1 {
			t.Errorf("%d revokes", revokes.Load())
		}
		for i := range 20 {
			grant(t, k, int64(10+i), 2)
		}
		time.Sleep(2500 * time.Millisecond)
		ids, err := k.Leases(t.Context())
		if err != nil || len(ids) != 2 {
			t.Errorf("leases %v, %v", ids, err)
		}
		info, found, err := k.TimeToLive(t.Context(), 1, true)
		if err != nil || !found || info.Remaining != 0 || info.TTL != 2 {
			t.Errorf("%+v %t %v", info, found, err)
		}
		for range 100 {
			if _, err := k.Renew(t.Context(), 1); !errors.Is(err, mvcc.ErrCorrupt) {
				t.Fatalf("renewal: %v", err)
			}
		}
		if revokes.Load() != 1 {
			t.Errorf("renewals made %d revokes", revokes.Load()-1)
		}
		if _, err := k.Revoke(t.Context(), 1); !errors.Is(err, mvcc.ErrCorrupt) {
			t.Errorf("revoke: %v", err)
		}
		renew(t, k, 2, 100)
		before := revokes.Load()
		time.Sleep(10 * damagedRetry)
		if n := revokes.Load() - before; n < 5 || n > 12 {
			t.Errorf("%d tries in %v", n, 10*damagedRetry)
		}
		s.setFail(nil)
		time.Sleep(2 * damagedRetry)
		if ids, err := k.Leases(t.Context()); err != nil || len(ids) != 0 {
			t.Errorf("after the damage: %v, %v", ids, err)
		}
		renew(t, k, 1, 0)
	})
}

// TestDamagedStart: a keeper that cannot read the leases says so to who asks, tries again slowly, and serves when
// they can be read.
func TestDamagedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var claims atomic.Int64
		s.setFail(func(op string, _ int64) (error, bool) {
			if op == "claim" {
				claims.Add(1)
				return errDamage, false
			}
			return nil, true
		})
		k, err := New(&client{fakeStore: s}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- k.Run(t.Context()) }()
		if _, err := k.Grant(t.Context(), 1, 10); !errors.Is(err, mvcc.ErrCorrupt) {
			t.Errorf("grant: %v", err)
		}
		if _, err := k.Leases(t.Context()); !errors.Is(err, mvcc.ErrCorrupt) {
			t.Errorf("list: %v", err)
		}
		time.Sleep(10 * damagedRetry)
		if n := claims.Load(); n > 11 {
			t.Errorf("%d claims", n)
		}
		select {
		case err := <-done:
			t.Fatalf("the keeper has ended: %v", err)
		default:
		}
		s.setFail(nil)
		<-k.Ready()
		grant(t, k, 1, 10)
	})
}
