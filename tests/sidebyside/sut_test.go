package sidebyside

import (
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/faults"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// starter starts a server under test.
type starter func() (*Target, error)

// suts are the servers under test, by their names for -sut.
var suts = map[string]func(testing.TB) starter{
	"headwater": func(tb testing.TB) starter {
		tb.Helper()
		program := hw.Headwater(tb)
		return func() (*Target, error) { return NewHeadwater(tb, program) }
	},
	"etcd": func(testing.TB) starter {
		return func() (*Target, error) { return NewEtcd("etcd as the server under test") }
	},
	// The distributed form on the engine of package testengine: revisions have gaps.
	"pods": func(tb testing.TB) starter {
		tb.Helper()
		return func() (*Target, error) { return startPods(tb, faults.Options{}) }
	},
	// The same with faults in the engine, of which no client must notice anything.
	"faults": func(tb testing.TB) starter {
		tb.Helper()
		return func() (*Target, error) {
			return startPods(tb, badDays(rand.Uint64()))
		}
	},
}

// sut starts the server under test that -sut names.
func sut(tb testing.TB) starter {
	tb.Helper()
	return sutNamed(tb, *sutName)
}

func sutNamed(tb testing.TB, name string) starter {
	tb.Helper()
	if suts[name] == nil {
		tb.Fatalf("unknown -sut %q", name)
	}
	return suts[name](tb)
}

// storeCacheBytes is enough for the data that sequences leave in one store.
const storeCacheBytes = 8 << 20

// badDays are faults that pods must hide from their clients.
func badDays(seed uint64) faults.Options {
	return faults.Options{Seed: seed, Conflict: 0.03, UnknownLost: 0.02, UnknownCommitted: 0.02, TooOld: 0.001}
}

func startPods(tb testing.TB, f faults.Options) (*Target, error) {
	tb.Helper()
	o, err := ownStore(tb)
	if err != nil {
		return nil, err
	}
	o.Faults = f
	return NewPods(tb, o)
}

// ownStore returns what pods need on an engine of their own.
func ownStore(tb testing.TB) (Distributed, error) {
	tb.Helper()
	store, err := openStore(tb)
	o := Distributed{Engine: store}
	if *podsLog {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return o, err
}

// openStore opens an engine that can be closed before the end of the test. A run uses many engines, and those in memory
// are large.
func openStore(tb testing.TB) (engine.Store, error) {
	tb.Helper()
	if testengine.Chosen() == testengine.FoundationDB {
		return testengine.KeepOpen(testengine.Open(tb, 0)), nil
	}
	options := testengine.PebbleOptions(rand.Uint64())
	options.CacheBytes = storeCacheBytes
	return pebble.Open("store", options)
}
