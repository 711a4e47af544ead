package memory

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Engine {
		s := New()
		t.Cleanup(func() { _ = s.Close() })
		return enginetest.Engine{Store: s, Reopen: func(bool) engine.Store { return s }}
	})
}

// put commits one key and returns the commit's error.
func put(t *testing.T, s *Store, key, value string) error {
	t.Helper()
	x, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Discard()
	x.Set([]byte(key), []byte(value))
	_, err = x.Commit(t.Context())
	return err
}

// TestSetBack: a store that is set back has what it had, later readers' versions are lower until it is advanced, who
// waits for a change wakes, and what began before is not committed.
func TestSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		defer s.Close()
		s.Advance(1 << 40)
		get := func() string {
			t.Helper()
			snap, err := s.Snapshot(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer snap.Close()
			v, err := snap.Get(t.Context(), []byte("key"))
			if err != nil {
				t.Fatal(err)
			}
			return string(v)
		}
		if err := put(t, s, "key", "old"); err != nil {
			t.Fatal(err)
		}
		saved := s.Save()
		if err := put(t, s, "key", "new"); err != nil {
			t.Fatal(err)
		}
		begun, err := s.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer begun.Discard()
		begun.Set([]byte("other"), nil)
		woken := make(chan error)
		go func() { woken <- s.WaitChange(t.Context(), []byte("key"), []byte("new")) }()
		synctest.Wait()
		before := s.Version()
		s.SetBack(saved)
		if err := <-woken; err != nil {
			t.Error(err)
		}
		if v := s.Version(); get() != "old" || v >= before {
			t.Errorf("%q at version %d, after %d", get(), v, before)
		}
		if _, err := begun.Commit(t.Context()); !errors.Is(err, engine.ErrTooOld) {
			t.Errorf("what began before: %v", err)
		}
		s.Advance(before)
		if v := s.Version(); v <= before {
			t.Errorf("version %d, advanced to %d", v, before)
		}
		if err := put(t, s, "key", "newest"); err != nil || get() != "newest" {
			t.Errorf("%q, %v", get(), err)
		}
		s.SetBack(saved)
		if v := get(); v != "old" {
			t.Errorf("%q, the saved state has changed", v)
		}
	})
}
