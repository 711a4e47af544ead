package keyspace_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

var root = []byte("hw/")

// TestFoundationDB says whether this run has a cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// each runs f on the shared engine of this run, and on the others that a keyspace can be on.
func each(t *testing.T, f func(t *testing.T, s engine.Store)) {
	t.Run("shared", func(t *testing.T) { f(t, testengine.Open(t, 0)) })
	for name, o := range map[string]pebble.Options{"dense": {}, "sparse": {Sparse: true}} {
		t.Run(name, func(t *testing.T) {
			o.FS, o.ReserveBytes, o.BallastBytes, o.CloseWithin = vfs.NewMem(), -1, -1, time.Minute
			s, err := pebble.Open("store", o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			f(t, s)
		})
	}
}

func open(t *testing.T, s engine.Store, name string) keyspace.Keyspace {
	t.Helper()
	ks, err := keyspace.Open(t.Context(), s, root, name)
	if err != nil {
		t.Fatal(err)
	}
	return ks
}

// rows are the keys of the store that begin with prefix.
func rows(t *testing.T, s engine.Store, prefix []byte) (keys []string) {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	it := snap.Scan(t.Context(), engine.Range{})
	for it.Next() {
		if k := string(it.Key()); strings.HasPrefix(k, string(prefix)) {
			keys = append(keys, k)
		}
	}
	if err := errors.Join(it.Err(), it.Close()); err != nil {
		t.Fatal(err)
	}
	return keys
}

func set(t *testing.T, s engine.Store, keys ...string) {
	t.Helper()
	txn, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Discard()
	for _, k := range keys {
		txn.Set([]byte(k), []byte("v"))
	}
	p, err := txn.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLifecycle(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		set(t, s, "a", "hw", "hw0", "z") // neighbours of the root
		if _, err := keyspace.Lookup(t.Context(), s, root, "a"); !errors.Is(err, keyspace.ErrNotFound) {
			t.Errorf("Lookup: %v", err)
		}
		if err := keyspace.Delete(t.Context(), s, root, "a"); !errors.Is(err, keyspace.ErrNotFound) {
			t.Errorf("Delete: %v", err)
		}
		a, b := open(t, s, "a"), open(t, s, "b")
		for name, want := range map[string]keyspace.Keyspace{"a": a, "b": b} {
			got, err := keyspace.Lookup(t.Context(), s, root, name)
			if err != nil || cmp.Diff(want, got) != "" || cmp.Diff(want, open(t, s, name)) != "" {
				t.Errorf("%s: %v, %v; want %v", name, got, err, want)
			}
		}
		for _, ks := range []keyspace.Keyspace{a, b} {
			for _, prefix := range [][]byte{ks.Prefix, ks.Coordination} {
				for _, k := range []string{"", "\x00", "x", "\xff\xff\xff"} {
					set(t, s, string(prefix)+k)
				}
			}
		}
		list, err := keyspace.List(t.Context(), s, root, "", 0)
		if err != nil || len(list) != 2 ||
			cmp.Diff([]keyspace.Keyspace{a, b}, []keyspace.Keyspace{list[0].Keyspace, list[1].Keyspace}) != "" {
			t.Error(list, err)
		}
		if err := keyspace.Delete(t.Context(), s, root, "a"); err != nil {
			t.Fatal(err)
		}
		if n := len(rows(t, s, a.Prefix)); n != 4 {
			t.Errorf("%d rows are left before they are cleared", n)
		}
		if err := keyspace.Clear(t.Context(), s, root, nil); err != nil {
			t.Fatal(err)
		}
		if got := slices.Concat(rows(t, s, a.Prefix), rows(t, s, a.Coordination)); len(got) != 0 {
			t.Errorf("left of a deleted keyspace: %q", got)
		}
		if n := len(rows(t, s, b.Prefix)) + len(rows(t, s, b.Coordination)); n != 8 {
			t.Errorf("%d rows left of the other one", n)
		}
		if got := len(rows(t, s, nil)); got != 4+8+4 { // neighbours, rows of b, and its name, the last id, the deleted one, the table's version
			t.Errorf("%d rows: %q", got, rows(t, s, nil))
		}
		if _, err := keyspace.Lookup(t.Context(), s, root, "a"); !errors.Is(err, keyspace.ErrNotFound) {
			t.Errorf("Lookup: %v", err)
		}
		again := open(t, s, "a")
		if again.ID <= b.ID || len(rows(t, s, again.Prefix)) != 0 {
			t.Errorf("created again: %+v", again)
		}
		set(t, s, string(a.Prefix)+"late") // a pod that has not noticed
		if len(rows(t, s, again.Prefix)) != 0 {
			t.Error("a late write landed in the new keyspace")
		}
		set(t, s, string(again.Prefix)+"x")
		if err := keyspace.Sweep(t.Context(), s, root); err != nil {
			t.Fatal(err)
		}
		if len(rows(t, s, a.Prefix)) != 0 || len(rows(t, s, again.Prefix)) != 1 {
			t.Error("the sweep cleared something else than what was deleted")
		}
	})
}

func TestNames(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		for _, name := range []string{
			"", "-", "a-", "-a", "A", "a.b", "a/b", "a b", "ä", "a\x00", strings.Repeat("a", 64),
		} {
			_, err := keyspace.Open(t.Context(), s, root, name)
			_, err2 := keyspace.Lookup(t.Context(), s, root, name)
			err3 := keyspace.Delete(t.Context(), s, root, name)
			if !errors.Is(err, keyspace.ErrName) || !errors.Is(err2, keyspace.ErrName) ||
				!errors.Is(err3, keyspace.ErrName) {
				t.Errorf("%q: %v, %v, %v", name, err, err2, err3)
			}
		}
		for _, name := range []string{"a", "0", "a-b", strings.Repeat("a", 63)} {
			open(t, s, name)
		}
	})
}

// TestPrefixes: the prefixes of many keyspaces are short, and none begins with another.
func TestPrefixes(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		var all []string
		for i := range 300 {
			ks := open(t, s, fmt.Sprintf("n%d", i))
			all = append(all, string(ks.Prefix), string(ks.Coordination))
			if n := len(ks.Prefix) - len(root); ks.ID != uint64(i+1) || n > 5 || i < 255 && n > 4 {
				t.Errorf("%d: %x, id %d", i, ks.Prefix, ks.ID)
			}
		}
		slices.Sort(all)
		for i := range all[1:] {
			if strings.HasPrefix(all[i+1], all[i]) {
				t.Errorf("%x is the beginning of %x", all[i], all[i+1])
			}
		}
		if list, err := keyspace.List(t.Context(), s, root, "", 0); err != nil || len(list) != 300 {
			t.Errorf("%d listed, %v", len(list), err)
		}
	})
}

// TestFormat: a table of a later version is left alone.
func TestFormat(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		set(t, s, "hw/\x00i", "hw/\x00na")
		_, err := keyspace.Open(t.Context(), s, root, "a")
		_, err2 := keyspace.Open(t.Context(), s, root, "b")
		_, err3 := keyspace.List(t.Context(), s, root, "", 0)
		err4 := keyspace.Delete(t.Context(), s, root, "a")
		for _, err := range []error{err, err2, err3, err4} {
			if !errors.Is(err, keyspace.ErrFormat) {
				t.Error(err)
			}
		}
	})
}

// TestRaces: concurrent creators and deleters of few names on a store with faults. Two creations of a name agree
// unless a deletion lies between; no id is given to two names; what is deleted is empty.
func TestRaces(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		f := faults.New(s, faults.Options{Seed: seed, Conflict: .1, UnknownLost: .1, UnknownCommitted: .1, TooOld: .01})
		var (
			mu   sync.Mutex
			ids  = map[uint64]string{}
			wg   sync.WaitGroup
			made = map[string]map[uint64]bool{}
		)
		for i := range uint64(8) {
			r := rand.New(rand.NewPCG(seed, i))
			wg.Go(func() {
				for range 15 {
					name := fmt.Sprint("n", r.IntN(3))
					if r.IntN(4) == 0 {
						if err := keyspace.Delete(t.Context(), f, root, name); err != nil &&
							!errors.Is(err, keyspace.ErrNotFound) {
							t.Error(err)
						}
						continue
					}
					ks, err := keyspace.Open(t.Context(), f, root, name)
					if err != nil {
						t.Error(err)
						continue
					}
					mu.Lock()
					if other, ok := ids[ks.ID]; ok && other != name {
						t.Errorf("id %d for %s and %s", ks.ID, name, other)
					}
					ids[ks.ID] = name
					if made[name] == nil {
						made[name] = map[uint64]bool{}
					}
					made[name][ks.ID] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for name, ids := range made {
			ks, err := keyspace.Lookup(t.Context(), s, root, name)
			if err == nil && slices.Max(slices.Collect(maps.Keys(ids))) > ks.ID {
				t.Errorf("%s has an older id %d than one given before", name, ks.ID)
			}
		}
	})
}

// TestManyDeleted: the sweep works in several transactions.
func TestManyDeleted(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		var gone []keyspace.Keyspace
		for range 270 {
			gone = append(gone, open(t, s, "a"))
			if err := keyspace.Delete(t.Context(), s, root, "a"); err != nil {
				t.Fatal(err)
			}
		}
		if err := keyspace.Clear(t.Context(), s, root, nil); err != nil {
			t.Fatal(err)
		}
		for _, ks := range gone {
			set(t, s, string(ks.Prefix)+"late")
		}
		if err := keyspace.Sweep(t.Context(), s, root); err != nil {
			t.Fatal(err)
		}
		if got := rows(t, s, []byte("hw/\x01")); len(got) != 0 {
			t.Errorf("%d rows left", len(got))
		}
	})
}

func TestWaitDeleted(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		ks := open(t, s, "a")
		ended := make(chan error, 1)
		go func() { ended <- keyspace.WaitDeleted(t.Context(), s, root, ks) }()
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := keyspace.WaitDeleted(short, s, root, ks); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("of a living one: %v", err)
		}
		if err := keyspace.Delete(t.Context(), s, root, "a"); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		open(t, s, "a")
		if err := keyspace.WaitDeleted(t.Context(), s, root, ks); err != nil {
			t.Error(err)
		}
	})
}

// TestSeveralStores: mvcc keyspaces live side by side, and one that was deleted and created again begins anew.
func TestSeveralStores(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		put := func(ks keyspace.Keyspace, value string) int64 {
			t.Helper()
			store, err := mvcc.Open(t.Context(), s, mvcc.Options{Prefix: ks.Prefix})
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			res, err := store.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k"), Value: []byte(value), PrevKV: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Prev) == 0 {
				return 1
			}
			return res.Prev[0].Version + 1
		}
		for i := range 3 {
			for _, name := range []string{"a", "b"} {
				if v := put(open(t, s, name), name+"value"); v != int64(i+1) {
					t.Errorf("%s: version %d", name, v)
				}
			}
		}
		if err := keyspace.Delete(t.Context(), s, root, "a"); err != nil {
			t.Fatal(err)
		}
		if v := put(open(t, s, "a"), "new"); v != 1 {
			t.Errorf("created again: version %d", v)
		}
		if v := put(open(t, s, "b"), "b"); v != 4 {
			t.Errorf("the other one: version %d", v)
		}
	})
}
