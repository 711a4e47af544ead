package testengine

import (
	"context"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m, IgnoreThreads()) }

// TestFoundationDB says whether this run has a cluster.
func TestFoundationDB(t *testing.T) { OnFoundationDB(t) }

// TestChoice: a test runs on the engine that was named, or not at all.
func TestChoice(t *testing.T) {
	for _, c := range []struct {
		name, file string
		built      bool
		want, err  string
	}{
		{"", "", false, Pebble, ""},
		{"", "f", true, Pebble, ""},
		{Pebble, "f", true, Pebble, ""},
		{FoundationDB, "f", true, FoundationDB, ""},
		{FoundationDB, "f", false, "", "-tags foundationdb"},
		{FoundationDB, "", true, "", ClusterEnv},
		{"fdb", "f", true, "", "there are pebble and foundationdb"},
	} {
		got, err := choice(c.name, c.file, c.built)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// TestOpen: two stores of a run do not see each other's rows, and are what was chosen.
func TestOpen(t *testing.T) {
	a, b := Open(t, 1), Open(t, 1)
	if _, onPebble := a.(*pebble.Store); onPebble != (Chosen() == Pebble) {
		t.Errorf("%T where %s was chosen", a, Chosen())
	}
	if a.Limits().Dense {
		t.Error("one version per commit is what pods must bear")
	}
	put(t, a, "k")
	if got := get(t, a, "k"); got != "v" {
		t.Errorf("%q in the store that it was written to", got)
	}
	if got := get(t, b, "k"); got != "" {
		t.Errorf("%q in another store", got)
	}
}

func put(t *testing.T, s engine.Store, key string) {
	t.Helper()
	x, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x.Set([]byte(key), []byte("v"))
	p, err := x.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, s engine.Store, key string) string {
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
	return string(v)
}
