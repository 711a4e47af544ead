package lease

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func even(id int64) bool { return id%2 == 0 }

// TestOwns: a keeper of a shard loads, grants and answers for its own leases only.
func TestOwns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.rows[1], s.rows[2] = 10, 10
		k, stop := run(t, &client{fakeStore: s}, Options{Holds: func() bool { return true }, Owns: even, Shard: 3})
		if got, err := k.Leases(t.Context()); err != nil || len(got) != 1 || got[0] != 2 {
			t.Errorf("leases %v, %v", got, err)
		}
		renew(t, k, 2, 10)
		for range 20 {
			if g := grant(t, k, 0, 5); !even(g.ID) {
				t.Errorf("chosen id %d", g.ID)
			}
		}
		_, err := k.Grant(t.Context(), 3, 5)
		_, err2 := k.Revoke(t.Context(), 1)
		_, err3 := k.Renew(t.Context(), 1)
		_, _, err4 := k.TimeToLive(t.Context(), 1, true)
		for _, err := range []error{err, err2, err3, err4} {
			if !errors.Is(err, ErrNotOwner) {
				t.Errorf("of another shard: %v", err)
			}
		}
		if _, ok := k.TryRenew(1); ok {
			t.Error("TryRenew has an answer for another shard")
		}
		if s.claims[3] != 1 {
			t.Errorf("claims %v", s.claims)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !s.has(1) || s.has(2) {
			t.Error("expired leases of another shard, or not its own")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if _, err := k.Renew(t.Context(), 2); !errors.Is(err, ErrNotOwner) {
			t.Errorf("a shard's keeper that has stopped: %v", err)
		}
	})
}

// TestHolds: a keeper that may have lost its shard answers nothing from memory.
func TestHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		var holds atomic.Bool
		holds.Store(true)
		k, stop := run(t, &client{fakeStore: s}, Options{Holds: holds.Load})
		defer stop()
		grant(t, k, 1, 10)
		holds.Store(false)
		if _, ok := k.TryRenew(1); ok {
			t.Error("TryRenew has an answer")
		}
		_, err := k.Renew(t.Context(), 1)
		_, err2 := k.Renew(t.Context(), 2) // that there is no such lease is an answer too
		_, _, err3 := k.TimeToLive(t.Context(), 1, false)
		_, _, err4 := k.TimeToLive(t.Context(), 2, true)
		_, err5 := k.Leases(t.Context())
		for i, err := range []error{err, err2, err3, err4, err5} {
			if !errors.Is(err, ErrNotOwner) {
				t.Errorf("%d: %v", i, err)
			}
		}
		holds.Store(true)
		renew(t, k, 1, 10)
	})
}

// TestLateClaim: a keeper that has lost its shard by the time its claim is made does not use it.
func TestLateClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		s.rows[1] = 10
		rightful, stop := run(t, &client{fakeStore: s}, Options{Holds: func() bool { return true }})
		late, err := New(&client{fakeStore: s}, Options{Holds: func() bool { return false }})
		if err != nil {
			t.Fatal(err)
		}
		if err := late.Run(t.Context()); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Run: %v", err)
		}
		select {
		case <-late.Ready():
			t.Error("ready")
		default:
		}
		// The rightful one finds out when it writes. What it was asked to do has not been done.
		if _, err := rightful.Grant(t.Context(), 2, 5); !errors.Is(err, ErrNotOwner) || s.has(2) {
			t.Errorf("Grant: %v", err)
		}
		if err := stop(); !errors.Is(err, ErrNotOwner) {
			t.Errorf("Run: %v", err)
		}
		again, stop := run(t, &client{fakeStore: s}, Options{Holds: func() bool { return true }})
		renew(t, again, 1, 10)
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestFencedWrites: grants and revokes of a keeper that another has followed fail, and end it.
func TestFencedWrites(t *testing.T) {
	for name, write := range map[string]func(context.Context, *Keeper) error{
		"grant":  func(ctx context.Context, k *Keeper) error { _, err := k.Grant(ctx, 2, 5); return err },
		"revoke": func(ctx context.Context, k *Keeper) error { _, err := k.Revoke(ctx, 1); return err },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeStore()
			s.rows[1] = 10
			k, stop := run(t, &client{fakeStore: s}, Options{})
			_, stop2 := run(t, &client{fakeStore: s}, Options{})
			if err := write(t.Context(), k); !errors.Is(err, ErrNotOwner) || !s.has(1) || s.has(2) {
				t.Errorf("%s: %v", name, err)
			}
			synctest.Wait()
			if _, err := k.Renew(t.Context(), 1); !errors.Is(err, ErrNotOwner) {
				t.Errorf("%s: Renew afterwards: %v", name, err)
			}
			if err := stop(); !errors.Is(err, ErrNotOwner) {
				t.Errorf("%s: Run: %v", name, err)
			}
			if err := stop2(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMeter: keepers that share a meter are counted together, also after they have ended.
func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStore()
		m := NewMeter()
		for i := range int64(3) {
			k, stop := run(t, &client{fakeStore: s}, Options{Meter: m})
			grant(t, k, i+1, 100)
			renew(t, k, 1, 100)
			if got := m.Stats(); got != (Stats{Granted: uint64(i + 1), Renewed: uint64(i + 1), Active: int(i + 1)}) {
				t.Errorf("%d: %+v", i, got)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		if got := m.Stats(); got != (Stats{Granted: 3, Renewed: 3}) {
			t.Errorf("in the end: %+v", got)
		}
	})
}
