package enginetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
)

// recentTries bounds the wait for a recent state: one that is too old is not offered.
const recentTries = 100

// testRecent: a recent state has all commits of this store, and a commit on one that is outdated conflicts.
func testRecent(t *testing.T, e Engine) {
	r, ok := e.Store.(engine.RecentBeginner)
	if !ok || e.Store.Limits().Pipelined {
		t.Skip("the engine has no BeginRecent, or no need of it")
	}
	// recent commits key=value and begins on the recent state that it leaves.
	recent := func(t *testing.T, key, value string) engine.Txn {
		t.Helper()
		for range recentTries {
			write(t, e.Store, func(x engine.Txn) { x.Set([]byte(key), []byte(value)) })
			x, ok, err := r.BeginRecent(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				return x
			}
		}
		t.Fatal("there is no recent state after a commit")
		return nil
	}
	t.Run("sees own commits", func(t *testing.T) {
		for i := range 50 {
			value := fmt.Sprint(i)
			x := recent(t, "own", value)
			if got := get(t, x, "own"); string(got) != value {
				t.Fatalf("%q after a commit of %q", got, value)
			}
			x.Discard()
		}
	})
	t.Run("conflicts", func(t *testing.T) {
		x := recent(t, "read", "1")
		get(t, x, "read")
		write(t, e.Store, func(x engine.Txn) { x.Set([]byte("read"), []byte("2")) })
		x.Set([]byte("other"), []byte("x"))
		if _, err := commit(x); !errors.Is(err, engine.ErrConflict) {
			t.Errorf("a commit on an old state: %v", err)
		}
		x = recent(t, "read", "3")
		x.Set([]byte("other"), []byte("y"))
		if _, err := commit(x); err != nil {
			t.Errorf("a commit that has read nothing: %v", err)
		}
	})
	t.Run("counts", func(t *testing.T) {
		const writers, rounds = 4, 25
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for n := 0; n < rounds; {
					x, ok, err := r.BeginRecent(t.Context())
					if !ok && err == nil {
						x, err = e.Store.Begin(t.Context())
					}
					if err != nil {
						t.Error(err)
						return
					}
					v, err := x.Get(t.Context(), []byte("count"))
					if err != nil {
						t.Error(err)
						return
					}
					x.Set([]byte("count"), append(v, '.'))
					switch _, err := commit(x); {
					case err == nil:
						n++
					case !errors.Is(err, engine.ErrConflict):
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		all := snapshot(t, e.Store)
		defer all.Close()
		if got := len(get(t, all, "count")); got != writers*rounds {
			t.Errorf("%d of %d additions are left", got, writers*rounds)
		}
	})
}
