package lease

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwaterdb/headwater/libs/mvcc"
)

// goneButTaken checks that nobody is told of a lease that is ending, without waiting, and that its id is taken.
func goneButTaken(t *testing.T, k *Keeper, id int64) {
	t.Helper()
	begun := time.Now()
	renew(t, k, id, 0)
	if ttl, ok := k.TryRenew(id); !ok || ttl != 0 {
		t.Errorf("TryRenew = %d, %v", ttl, ok)
	}
	for _, keys := range []bool{false, true} {
		if _, found, err := k.TimeToLive(t.Context(), id, keys); found || err != nil {
			t.Errorf("TimeToLive with keys %v: %v, %v", keys, found, err)
		}
	}
	if ids, err := k.Leases(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("Leases = %v, %v", ids, err)
	}
	if _, err := k.Grant(t.Context(), id, 10); !errors.Is(err, mvcc.ErrLeaseExists) {
		t.Errorf("Grant: %v", err)
	}
	if d := time.Since(begun); d != 0 {
		t.Errorf("somebody waited %v", d)
	}
}

// TestSteps: from the first step on there is no such lease; Revoke answers after the last; a step that fails is made
// again.
func TestSteps(t *testing.T) {
	bubble(t, func(t *testing.T, s *fakeStore, k *Keeper) {
		const step = time.Second
		s.setLatency(step)
		for _, fails := range []error{nil, errDown, mvcc.ErrTooManyRequests, mvcc.ErrCorrupt} {
			grant(t, k, 1, 1000)
			s.endIn(1, 5)
			failed := false
			s.setFail(func(op string, _ int64) (error, bool) {
				if op == "step" && fails != nil && !failed {
					failed = true
					return fails, false
				}
				return nil, true
			})
			revoked := make(chan error, 1)
			begun := time.Now()
			go func() {
				_, err := k.Revoke(t.Context(), 1)
				revoked <- err
			}()
			waiting := make(chan int64, 1)
			synctest.Wait() // the revoke is under way
			go func() {
				ttl, _ := k.Renew(t.Context(), 1)
				waiting <- ttl
			}()
			time.Sleep(step + step/2)
			select {
			case ttl := <-waiting:
				if ttl != 0 {
					t.Errorf("renewed for %d s", ttl)
				}
			default:
				t.Error("a renewal waits although the lease is ending")
			}
			goneButTaken(t, k, 1)
			err := <-revoked
			if !errors.Is(err, fails) {
				t.Errorf("Revoke: %v, want %v", err, fails)
			}
			if fails == nil && time.Since(begun) != 6*step {
				t.Errorf("answered after %v", time.Since(begun))
			}
			if fails != nil {
				goneButTaken(t, k, 1)
			}
			time.Sleep(2 * damagedRetry)
			if n, _ := s.left(1); s.has(1) || n != 0 {
				t.Errorf("not ended: %d steps are left", n)
			}
			if _, err := k.Revoke(t.Context(), 1); !errors.Is(err, mvcc.ErrLeaseNotFound) {
				t.Errorf("a second revoke: %v", err)
			}
		}
		grant(t, k, 1, 10)
		renew(t, k, 1, 10)
	})
}

// TestStepsGoOn: whoever owns the leases next goes on where the keeper before has died.
func TestStepsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.steps[1] = 20
		s.rows[1] = 2
		s.setLatency(100 * time.Millisecond)
		first := &client{fakeStore: s}
		_, stop := run(t, first, Options{Extension: -1})
		time.Sleep(3 * time.Second) // it has expired
		if n, row := s.left(1); n == 0 || n == 20 || row != mvcc.LeaseEnding {
			t.Fatalf("%d steps are left of a lease with the row %d", n, row)
		}
		first.close()
		if err := stop(); err != nil {
			t.Error(err)
		}
		left, _ := s.left(1)
		k, stop := run(t, &client{fakeStore: s}, Options{})
		synctest.Wait()
		goneButTaken(t, k, 1)
		time.Sleep(time.Duration(left+2) * 100 * time.Millisecond)
		if s.has(1) {
			t.Error("not ended")
		}
		grant(t, k, 1, 10)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
