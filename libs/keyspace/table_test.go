package keyspace_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/keyspace"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

func create(t *testing.T, s engine.Store, name string, settings *keyspacev1.Keyspace) keyspace.Info {
	t.Helper()
	info, err := keyspace.Create(t.Context(), s, root, name, settings)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func show(t *testing.T, s engine.Store, name string) keyspace.Info {
	t.Helper()
	info, err := keyspace.Show(t.Context(), s, root, name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func rawRow(t *testing.T, s engine.Store, key string) []byte {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	v, err := snap.Get(t.Context(), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(v)
}

// readByEarlierReleases is how releases read the row of a keyspace before it had settings. They refuse another one,
// with "keyspace: unknown format".
func readByEarlierReleases(row []byte) bool { return len(row) == 9 && row[0] == 1 }

// TestSettings: what is created with settings has them, a change keeps the rest, and fields of later releases are kept.
func TestSettings(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		before := time.Now()
		settings := &keyspacev1.Keyspace{
			Id: 77, Birth: 1, Name: "x", State: keyspacev1.State_STATE_DELETING, // these are not the creator's to choose
			Limits: &keyspacev1.Limits{Bytes: 1 << 30, Watches: 5}, Weight: 3, Labels: map[string]string{"team": "a"},
		}
		a := create(t, s, "a", settings)
		got := show(t, s, "a")
		if !proto.Equal(a.Row, got.Row) || a.ID != 1 || !got.Served() || got.Row.GetName() != "" ||
			got.Row.GetBirth() == 1 {
			t.Errorf("created %v, shown %v", a.Row, got.Row)
		}
		if !proto.Equal(got.Row.GetLimits(), settings.Limits) || got.Row.GetWeight() != 3 ||
			got.Row.GetLabels()["team"] != "a" {
			t.Errorf("settings %v", got.Row)
		}
		if at := got.Row.GetCreated().AsTime(); at.Before(before.Add(-time.Second)) || !got.Row.GetAccess().GetOpen() {
			t.Errorf("created %v, access %v", at, got.Row.GetAccess())
		}
		if _, err := keyspace.Create(t.Context(), s, root, "a", nil); !errors.Is(err, keyspace.ErrExists) {
			t.Errorf("created twice: %v", err)
		}
		// A field of a later release.
		later := protowire.AppendString(protowire.AppendTag(rawRow(t, s, "hw/\x00na"), 1000, protowire.BytesType),
			"later")
		setRow(t, s, "hw/\x00na", later)
		changed, err := keyspace.Change(t.Context(), s, root, "a", func(row *keyspacev1.Keyspace) error {
			row.Id, row.State = 99, keyspacev1.State_STATE_CLEARED
			row.Limits.Keys = 7
			row.Labels["tier"] = "gold"
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		got = show(t, s, "a")
		limits := &keyspacev1.Limits{Bytes: 1 << 30, Watches: 5, Keys: 7}
		if !proto.Equal(changed.Row, got.Row) || got.ID != 1 || !got.Served() ||
			!proto.Equal(got.Row.GetLimits(), limits) {
			t.Errorf("changed to %v", got.Row)
		}
		if !bytes.Contains(rawRow(t, s, "hw/\x00na"), []byte("later")) {
			t.Error("a change has lost a field of a later release")
		}
		failed := errors.New("no")
		if _, err := keyspace.Change(t.Context(), s, root, "a", func(*keyspacev1.Keyspace) error {
			return failed
		}); !errors.Is(err, failed) {
			t.Error(err)
		}
		if _, err := keyspace.Change(t.Context(), s, root, "b", func(*keyspacev1.Keyspace) error {
			return nil
		}); !errors.Is(err, keyspace.ErrNotFound) {
			t.Error(err)
		}
	})
}

func setRow(t *testing.T, s engine.Store, key string, value []byte) {
	t.Helper()
	txn, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Discard()
	txn.Set([]byte(key), value)
	p, err := txn.Commit(t.Context())
	if err == nil {
		_, err = p.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestBadSettings(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		many := map[string]string{}
		for i := range keyspace.LabelsMax + 1 {
			many[fmt.Sprint(i)] = ""
		}
		open(t, s, "there")
		for what, settings := range map[string]*keyspacev1.Keyspace{
			"weight":     {Weight: keyspace.WeightMax + 1},
			"labels":     {Labels: many},
			"empty key":  {Labels: map[string]string{"": "x"}},
			"long key":   {Labels: map[string]string{strings.Repeat("k", keyspace.LabelBytesMax+1): ""}},
			"long value": {Labels: map[string]string{"k": strings.Repeat("v", keyspace.LabelBytesMax+1)}},
		} {
			_, err := keyspace.Create(t.Context(), s, root, "a", settings)
			_, err2 := keyspace.Change(t.Context(), s, root, "there", func(row *keyspacev1.Keyspace) error {
				row.Weight, row.Labels = settings.Weight, settings.Labels
				return nil
			})
			if !errors.Is(err, keyspace.ErrSettings) || !errors.Is(err2, keyspace.ErrSettings) {
				t.Errorf("%s: %v, %v", what, err, err2)
			}
		}
		if row := rawRow(t, s, "hw/\x00nthere"); !readByEarlierReleases(row) {
			t.Errorf("a refused change has changed the row: %x", row)
		}
	})
}

// TestFormats: a keyspace that nobody has said anything about has a row that earlier releases read, also one of theirs
// after this release has used it; a row with settings they refuse.
func TestFormats(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		setRow(t, s, "hw/\x00nold", []byte{1, 0, 0, 0, 0, 0, 0, 0, 5})
		setRow(t, s, "hw/\x00i", []byte{1, 0, 0, 0, 0, 0, 0, 0, 9})
		setRow(t, s, "hw/\x00x\x00\x00\x00\x00\x00\x00\x00\x04", []byte("gone"))
		if ks := open(t, s, "old"); ks.ID != 5 {
			t.Errorf("opened %+v", ks)
		}
		old := show(t, s, "old")
		if !old.Served() || old.Row.GetLimits() != nil || old.Row.GetWeight() != 0 || old.Row.GetAccess() != nil {
			t.Errorf("an old row reads as %v", old.Row)
		}
		if ks := open(t, s, "new"); ks.ID != 10 {
			t.Errorf("opened %+v", ks)
		}
		gone, err := keyspace.Deleted(t.Context(), s, root, 0, 0)
		if err != nil || len(gone) != 1 || gone[0].Name != "gone" || gone[0].ID != 4 ||
			gone[0].Row.GetState() != keyspacev1.State_STATE_CLEARED {
			t.Errorf("deleted: %v, %v", gone, err)
		}
		for _, name := range []string{"old", "new"} {
			if row := rawRow(t, s, "hw/\x00n"+name); !readByEarlierReleases(row) {
				t.Errorf("%s: earlier releases refuse %x", name, row)
			}
			if _, err := keyspace.Rename(t.Context(), s, root, name, "other"); err != nil {
				t.Fatal(err)
			}
			if row := rawRow(t, s, "hw/\x00nother"); !readByEarlierReleases(row) {
				t.Errorf("%s, renamed: earlier releases refuse %x", name, row)
			}
			if _, err := keyspace.Rename(t.Context(), s, root, "other", name); err != nil {
				t.Fatal(err)
			}
			if _, err := keyspace.Change(t.Context(), s, root, name, func(row *keyspacev1.Keyspace) error {
				row.Labels = map[string]string{"owner": "us"}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if row := rawRow(t, s, "hw/\x00n"+name); readByEarlierReleases(row) || row[0] != 2 {
				t.Errorf("%s: earlier releases misread %x", name, row)
			}
		}
		for what, row := range map[string][]byte{
			"later": {3, 1, 2}, "short": {1, 0}, "empty": {}, "not a message": {2, 0xff}, "no id": {2}, "id 0": {1, 0, 0, 0, 0, 0, 0, 0, 0},
		} {
			setRow(t, s, "hw/\x00nbad", row)
			_, err := keyspace.Show(t.Context(), s, root, "bad")
			_, listErr := keyspace.List(t.Context(), s, root, "", 0)
			for _, err := range []error{err, listErr} {
				if !errors.Is(err, keyspace.ErrFormat) || !strings.Contains(err.Error(), `"bad"`) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	})
}

func TestList(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		for i := range 25 {
			open(t, s, fmt.Sprintf("n%02d", i))
		}
		var got []string
		for after := ""; ; {
			page, err := keyspace.List(t.Context(), s, root, after, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range page {
				got, after = append(got, info.Name), info.Name
			}
			if len(page) < 10 {
				break
			}
		}
		if len(got) != 25 || got[0] != "n00" || got[24] != "n24" {
			t.Errorf("listed %v", got)
		}
	})
}

// TestRename: the rows, the id and the clients stay; the old name is free.
func TestRename(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		a := create(t, s, "a", &keyspacev1.Keyspace{Weight: 4})
		open(t, s, "b")
		set(t, s, string(a.Prefix)+"row")
		deleted := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { deleted <- keyspace.WaitDeleted(ctx, s, root, a.Keyspace) }()
		for to, want := range map[string]error{
			"b": keyspace.ErrExists, "a": keyspace.ErrExists, "A": keyspace.ErrName,
		} {
			if _, err := keyspace.Rename(t.Context(), s, root, "a", to); !errors.Is(err, want) {
				t.Errorf("to %q: %v", to, err)
			}
		}
		if _, err := keyspace.Rename(t.Context(), s, root, "none", "c"); !errors.Is(err, keyspace.ErrNotFound) {
			t.Error(err)
		}
		c, err := keyspace.Rename(t.Context(), s, root, "a", "c")
		if err != nil || c.ID != a.ID || c.Name != "c" || c.Row.GetWeight() != 4 || !bytes.Equal(c.Prefix, a.Prefix) {
			t.Errorf("renamed: %+v, %v", c, err)
		}
		if _, err := keyspace.Lookup(t.Context(), s, root, "a"); !errors.Is(err, keyspace.ErrNotFound) {
			t.Errorf("the old name: %v", err)
		}
		if again := open(t, s, "a"); again.ID == a.ID {
			t.Error("the old name leads to the old rows")
		}
		if len(rows(t, s, a.Prefix)) != 1 {
			t.Error("rows are gone")
		}
		if err := keyspace.Delete(t.Context(), s, root, "a"); err != nil { // another one
			t.Fatal(err)
		}
		select {
		case err := <-deleted:
			t.Errorf("taken for deleted when renamed: %v", err)
		default:
		}
		if err := keyspace.Delete(t.Context(), s, root, "c"); err != nil {
			t.Fatal(err)
		}
		if err := <-deleted; err != nil {
			t.Error(err)
		}
	})
}

// TestClear: a deleted keyspace goes in transactions of a bounded size, which may be interrupted; its name is free at
// once, and others keep what they have.
func TestClear(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		const many = 21_000 // more than two transactions
		a, b := open(t, s, "a"), open(t, s, "b")
		for i := 0; i < many; {
			var keys []string
			for ; i < many && len(keys) < 5000; i++ {
				keys = append(keys, fmt.Sprintf("%s%d", a.Prefix, i))
			}
			set(t, s, keys...)
		}
		set(t, s, string(a.Coordination)+"x", string(b.Prefix)+"x")
		if err := keyspace.Delete(t.Context(), s, root, "a"); err != nil {
			t.Fatal(err)
		}
		again := open(t, s, "a")
		set(t, s, string(again.Prefix)+"x")
		stopped := errors.New("stopped")
		var steps []int
		paced := func(n int) error {
			if steps = append(steps, n); len(steps) == 1 {
				return stopped
			}
			return nil
		}
		if err := keyspace.Clear(t.Context(), s, root, paced); !errors.Is(err, stopped) {
			t.Errorf("paced: %v", err)
		}
		if gone, err := keyspace.Deleted(t.Context(), s, root, 0, 0); err != nil || len(gone) != 1 ||
			gone[0].Row.GetState() != keyspacev1.State_STATE_DELETING || gone[0].Name != "a" {
			t.Errorf("%v, %v", gone, err)
		}
		if err := keyspace.Clear(t.Context(), s, root, paced); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, n := range steps {
			sum += n
			if n > 10_000 {
				t.Errorf("%d rows in one transaction", n)
			}
		}
		if sum != many+1 || len(rows(t, s, a.Prefix))+len(rows(t, s, a.Coordination)) != 0 {
			t.Errorf("%d rows cleared in %v", sum, steps)
		}
		if len(rows(t, s, b.Prefix)) != 1 || len(rows(t, s, again.Prefix)) != 1 {
			t.Error("rows of others are gone")
		}
		gone, err := keyspace.Deleted(t.Context(), s, root, 0, 0)
		if err != nil || len(gone) != 1 || gone[0].Row.GetState() != keyspacev1.State_STATE_CLEARED {
			t.Errorf("%v, %v", gone, err)
		}
	})
}

// TestTend: what is deleted is cleared by whoever tends the table, also what was deleted before.
func TestTend(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		rowsOf := map[string]string{}
		for _, name := range []string{"before", "while"} {
			rowsOf[name] = string(open(t, s, name).Prefix) + "x"
			set(t, s, rowsOf[name])
		}
		gone := func(name string) {
			for rawRow(t, s, rowsOf[name]) != nil {
				if err := s.WaitChange(t.Context(), []byte(rowsOf[name]), []byte("v")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := keyspace.Delete(t.Context(), s, root, "before"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- keyspace.Tend(ctx, s, root, nil, func(err error) { t.Error(err) }) }()
		gone("before")
		if err := keyspace.Delete(t.Context(), s, root, "while"); err != nil {
			t.Fatal(err)
		}
		gone("while")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestUnprefixed: the keyspace that was there before the table has rows without a prefix; there is one, once.
func TestUnprefixed(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		behind := []byte("\xffhw/")
		old, err := keyspace.Create(t.Context(), s, behind, "default", &keyspacev1.Keyspace{Unprefixed: true})
		if err != nil || len(old.Prefix) != 0 || !bytes.HasPrefix(old.Coordination, behind) {
			t.Fatalf("%+v, %v", old, err)
		}
		if _, err := keyspace.Create(t.Context(), s, behind, "second",
			&keyspacev1.Keyspace{Unprefixed: true}); !errors.Is(err, keyspace.ErrExists) {
			t.Errorf("a second one: %v", err)
		}
		other, err := keyspace.Open(t.Context(), s, behind, "other")
		if err != nil {
			t.Fatal(err)
		}
		set(t, s, "mkeyspace", "lrow", string(other.Prefix)+"x")
		if err := errors.Join(keyspace.Delete(t.Context(), s, behind, "default"),
			keyspace.Clear(t.Context(), s, behind, nil)); err != nil {
			t.Fatal(err)
		}
		if len(rows(t, s, []byte("m")))+len(rows(t, s, []byte("l"))) != 0 || len(rows(t, s, other.Prefix)) != 1 {
			t.Errorf("left: %q", rows(t, s, nil))
		}
	})
}

// TestCache: the copy follows the table, holds no more than it may, and what it does not hold is read.
func TestCache(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		c := keyspace.NewCache(s, root, keyspace.CacheOptions{Max: 2, Refresh: time.Hour, Report: func(err error) {
			t.Error(err)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ByName(t.Context(), "a"); !errors.Is(err, keyspace.ErrNotFound) {
			t.Error(err)
		}
		held := func(id uint64, weight uint32) { // returns when the copy has it so; weight 0: no more
			for {
				changed := c.Changed()
				if info, ok := c.ByID(id); ok == (weight > 0) && info.Row.GetWeight() == weight {
					return
				}
				<-changed
			}
		}
		var infos []keyspace.Info
		for _, name := range []string{"a", "b", "c"} {
			info := create(t, s, name, &keyspacev1.Keyspace{Weight: 1})
			if got, err := c.ByName(t.Context(), name); err != nil || got.ID != info.ID {
				t.Errorf("%s is not there at once: %v", name, err)
			}
			infos = append(infos, info)
		}
		held(infos[0].ID, 1)
		held(infos[1].ID, 1)
		if _, ok := c.ByID(infos[2].ID); ok {
			t.Error("the copy holds more than it may")
		}
		if got, err := c.ByName(t.Context(), "c"); err != nil || got.ID != infos[2].ID {
			t.Error(err)
		}
		if _, err := keyspace.Change(t.Context(), s, root, "a", func(row *keyspacev1.Keyspace) error {
			row.Weight = 9
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		held(infos[0].ID, 9)
		if err := keyspace.Delete(t.Context(), s, root, "a"); err != nil {
			t.Fatal(err)
		}
		held(infos[0].ID, 0)
		held(infos[2].ID, 1) // there is room now
		if _, err := c.ByName(t.Context(), "a"); !errors.Is(err, keyspace.ErrNotFound) {
			t.Error(err)
		}
	})
}

// TestTableRaces: creators, renamers, changers and deleters of few names on a store with faults: what has been
// answered is what the table says in the end, no id is in it twice, and none is lost.
func TestTableRaces(t *testing.T) {
	each(t, func(t *testing.T, s engine.Store) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		f := faults.New(s, faults.Options{Seed: seed, Conflict: .1, UnknownLost: .1, UnknownCommitted: .1, TooOld: .01})
		var mu sync.Mutex
		created := map[uint64]bool{}
		deletions := 0
		expected := []error{keyspace.ErrExists, keyspace.ErrNotFound}
		var wg sync.WaitGroup
		for i := range uint64(6) {
			r := rand.New(rand.NewPCG(seed, i))
			wg.Go(func() {
				for range 20 {
					name, other := fmt.Sprint("n", r.IntN(4)), fmt.Sprint("n", r.IntN(4))
					var err error
					switch r.IntN(5) {
					case 0, 1:
						var info keyspace.Info
						if info, err = keyspace.Create(t.Context(), f, root, name, nil); err == nil {
							mu.Lock()
							if created[info.ID] {
								t.Errorf("id %d was given twice", info.ID)
							}
							created[info.ID] = true
							mu.Unlock()
						}
					case 2:
						_, err = keyspace.Rename(t.Context(), f, root, name, other)
					case 3:
						_, err = keyspace.Change(t.Context(), f, root, name, func(row *keyspacev1.Keyspace) error {
							row.Weight++
							return nil
						})
					case 4:
						if err = keyspace.Delete(t.Context(), f, root, name); err == nil {
							mu.Lock()
							deletions++
							mu.Unlock()
						}
					}
					if err != nil && !errors.Is(err, expected[0]) && !errors.Is(err, expected[1]) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		list, err := keyspace.List(t.Context(), s, root, "", 0)
		gone, err2 := keyspace.Deleted(t.Context(), s, root, 0, 0)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if len(gone) > deletions { // of two who delete the same one both may be told so, after an unknown outcome
			t.Errorf("%d deletions were acknowledged, %d keyspaces are deleted", deletions, len(gone))
		}
		seen := map[uint64]bool{}
		for _, info := range append(list, gone...) {
			if seen[info.ID] || !created[info.ID] {
				t.Errorf("id %d: twice %v, created %v", info.ID, seen[info.ID], created[info.ID])
			}
			seen[info.ID] = true
		}
		if len(seen) != len(created) {
			t.Errorf("%d were created, %d are there or deleted", len(created), len(seen))
		}
	})
}
