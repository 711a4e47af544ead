package election

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
)

// TestList: the list has the elections below the prefix, and no other rows. It shows who leads each, and later that
// nobody does.
func TestList(t *testing.T) {
	store := testengine.Open(t, 1)
	txn, err := store.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"p/", "p/b", "p/member-b", "p/xr", "p/lease/mhost:1b"} {
		txn.Set([]byte(k), []byte("no ballot"))
	}
	p, err := txn.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"p/compactor/", "p/lease/s\x00", "p/lease/s\x0f", "q/other/"}
	list := func(prefix string) (found []string) {
		t.Helper()
		snap, err := store.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		all, err := List(t.Context(), snap, []byte(prefix), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			found = append(found, fmt.Sprintf("%q %s %d", e.Key, e.Holder, e.Ballot))
		}
		return found
	}
	for ballot := 1; ballot < 3; ballot++ {
		for i, k := range keys {
			c, err := New(store, Options{Key: []byte(k), Holder: fmt.Sprint("pod", i)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if err := c.Run(ctx, func(context.Context, *Term) error {
				want := fmt.Sprintf("%q pod%d %d", k, i, ballot)
				if got := list(k[:2]); !slices.Contains(got, want) {
					t.Errorf("elections %v, want %s", got, want)
				}
				cancel()
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := list("p/"); len(got) != 3 {
		t.Errorf("elections %v", got)
	}
}
