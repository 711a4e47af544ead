package testengine

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
)

const (
	// Env chooses the engine: Pebble or FoundationDB; "" is Pebble.
	Env = "HEADWATER_TEST_ENGINE"
	// ClusterEnv names the cluster file. It is libfdb_c's own variable.
	ClusterEnv = "FDB_CLUSTER_FILE"

	// rootPrefix begins all rows of tests on the cluster.
	rootPrefix = "headwater-test/"

	// Pebble is an engine in memory that behaves as FoundationDB does.
	Pebble = "pebble"
	// FoundationDB is the cluster of ClusterEnv.
	FoundationDB = "foundationdb"
)

// networkThread is the client library's one thread, which lives as long as the process.
const networkThread = "github.com/apple/foundationdb/bindings/go/src/fdb.executeWithRunningNetworkThread.func1"

// Open opens the engine that was chosen, empty. It is closed with the test, after what the test opens on it later.
// The seed is that of Pebble's stamps; FoundationDB does not need one. What cannot be opened ends the test.
func Open(tb testing.TB, seed uint64) engine.Store {
	tb.Helper()
	var s engine.Store
	var err error
	if choose(tb) == FoundationDB {
		s, err = cluster.open(Root(tb))
	} else {
		s, err = pebble.Open("store", PebbleOptions(seed))
	}
	if err != nil {
		tb.Fatal(err)
	}
	closeWith(tb, s)
	return s
}

// Root is a random prefix for a test's rows in an engine that it shares with others, for those that do not Open one
// of their own. On FoundationDB the rows under it are cleared with the test.
func Root(tb testing.TB) string {
	tb.Helper()
	root := rootPrefix + rand.Text() + "/"
	if choose(tb) == FoundationDB {
		tb.Cleanup(func() {
			if err := cluster.clear(root); err != nil {
				tb.Errorf("rows under %q may be left: %v", root, err)
			}
		})
	}
	return root
}

// OpenCluster opens the whole of the cluster, for rows under a Root. It is closed with the test. It ends the test if
// FoundationDB was not chosen or cannot be had.
func OpenCluster(tb testing.TB) engine.Store {
	tb.Helper()
	if choose(tb) != FoundationDB {
		tb.Fatal("there is no cluster in memory")
	}
	s, err := cluster.open("")
	if err != nil {
		tb.Fatal(err)
	}
	closeWith(tb, s)
	return s
}

func closeWith(tb testing.TB, s engine.Store) {
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
}

// KeepOpen is a store for those who close what they use: closing it does nothing to s, which others use too.
func KeepOpen(s engine.Store) engine.Store { return keptOpen{s} }

type keptOpen struct{ engine.Store }

// Close implements engine.Store.
func (keptOpen) Close() error { return nil }

// Domain implements engine.Domains, if the engine does.
func (u keptOpen) Domain(prefix []byte) engine.Store { return keptOpen{engine.Domain(u.Store, prefix)} }

// BeginRecent implements engine.RecentBeginner, if the engine does.
func (u keptOpen) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	if r, ok := u.Store.(engine.RecentBeginner); ok {
		return r.BeginRecent(ctx)
	}
	return nil, false, nil
}

// PebbleOptions are those of the Pebble engine as Open gives it, for tests that need it whatever was chosen.
func PebbleOptions(seed uint64) pebble.Options {
	return pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1,
		Sparse: true, NotPipelined: true, FDBLimits: true, Seed: seed, CloseWithin: time.Minute,
	}
}

// Chosen is the name of the engine that was chosen. It does not say that there is one: Open does.
func Chosen() string {
	if os.Getenv(Env) == FoundationDB {
		return FoundationDB
	}
	return Pebble
}

// OnFoundationDB is for the one test of a suite that says what the suite runs on: it skips the test where that is not
// FoundationDB.
func OnFoundationDB(tb testing.TB) {
	tb.Helper()
	if choose(tb) != FoundationDB {
		tb.Skip(
			"SKIPPED: this suite ran on the engine in memory; nothing of it was tested on FoundationDB " +
				"(see make test-fdb)",
		)
	}
	tb.Log("this suite runs on FoundationDB, cluster file", os.Getenv(ClusterEnv))
}

// IgnoreThreads has goleak ignore the goroutine that FoundationDB's client library keeps for ever.
func IgnoreThreads() goleak.Option { return goleak.IgnoreAnyFunction(networkThread) }

// NeedsPebble skips a test that needs what only the Pebble engine has, where the run is one on FoundationDB.
func NeedsPebble(tb testing.TB, why string) {
	tb.Helper()
	if Chosen() == FoundationDB {
		tb.Skip("SKIPPED: only on the Pebble engine: " + why)
	}
}

// choose is the engine that was chosen; it ends the test if the run cannot have it.
func choose(tb testing.TB) string {
	tb.Helper()
	chosen, err := choice(os.Getenv(Env), os.Getenv(ClusterEnv), cluster != nil)
	if err != nil {
		tb.Fatal(err)
	}
	return chosen
}

// choice is the engine that the environment asks for, or why the run cannot have it.
func choice(name, clusterFile string, built bool) (string, error) {
	switch {
	case name == "" || name == Pebble:
		return Pebble, nil
	case name != FoundationDB:
		return "", fmt.Errorf("%s=%s: there are %s and %s", Env, name, Pebble, FoundationDB)
	case !built:
		return "", fmt.Errorf("%s=%s, but the test was built without -tags foundationdb: NOTHING WAS TESTED", Env, name)
	case clusterFile == "":
		return "", fmt.Errorf("%s=%s, but %s names no cluster file: NOTHING WAS TESTED", Env, name, ClusterEnv)
	}
	return FoundationDB, nil
}

// backend is FoundationDB as the build has it.
type backend struct {
	open  func(root string) (engine.Store, error)
	clear func(root string) error
}

// cluster is nil where FoundationDB is not built in.
var cluster *backend
