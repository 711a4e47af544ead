package pebble

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
)

// childEnv says that this process runs one test that leaves goroutines behind.
const childEnv = "HEADWATER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// small are options that make tests cheap.
func small(o Options) Options {
	o.CacheBytes, o.MemTableBytes = 1<<20, 1<<20
	return o
}

// openMem opens stores on a strict in-memory file system, which loses what was not synced when it is asked to crash.
func openMem(t *testing.T, o Options) enginetest.Engine {
	fs := vfs.NewCrashableMem()
	crash := rand.New(rand.NewPCG(rand.Uint64(), 0))
	open := func() *Store {
		t.Helper()
		o := small(o)
		o.FS = fs
		s, err := Open("data", o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s := open()
	return enginetest.Engine{Store: s, Reopen: func(crashed bool) engine.Store {
		if crashed {
			fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: crash.IntN(101), RNG: rand.New(rand.NewPCG(crash.Uint64(), 0))})
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		return s
	}}
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"dense":                   {},
		"dense,notpipelined":      {NotPipelined: true},
		"sparse":                  {Sparse: true},
		"sparse,fdb":              {Sparse: true, FDBLimits: true},
		"sparse,fdb,notpipelined": {Sparse: true, FDBLimits: true, NotPipelined: true},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) enginetest.Engine { return openMem(t, o) })
		})
	}
}
