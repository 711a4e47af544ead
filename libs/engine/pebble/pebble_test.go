package pebble

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/enginetest"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

// childEnv says that this process runs one test that leaves goroutines behind.
const childEnv = "HEADWATER_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(m.Run())
	}
	leaktest.Main(m)
}

// alone runs a test in a process of its own, because goroutines of a failed Pebble are left behind. It reports whether
// this is that process.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		return true
	}
	child := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	child.Env = append(os.Environ(), childEnv+"=1")
	if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Fatalf("%v\n%.4000s", err, out)
	}
	return false
}

// valuesOf are options with nearly every value in a value file, of which there are many.
func valuesOf(o Options) Options {
	o.ValueFiles, o.ValueBytes, o.ValueFileBytes = true, 9, 4<<10
	return o
}

// small are options that make tests cheap.
func small(o Options) Options {
	o.CacheBytes, o.MemTableBytes, o.Scribble = 1<<20, 1<<20, true
	if o.CloseWithin == 0 {
		o.CloseWithin = diskLimit
	}
	return o
}

// openMem opens stores on a strict in-memory file system, which loses what was not synced when it is asked to crash.
func openMem(t *testing.T, o Options) enginetest.Engine {
	fs := vfs.NewCrashableMem()
	crash := rand.New(rand.NewPCG(rand.Uint64(), 0))
	open := func() *Store {
		t.Helper()
		o := small(o)
		o.FS, o.CloseWithin = fs, time.Minute
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
			fs = fs.CrashClone(vfs.CrashCloneCfg{
				UnsyncedDataPercent: crash.IntN(101), RNG: rand.New(rand.NewPCG(crash.Uint64(), 0)),
			})
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		return s
	}}
}

// openDisk opens stores on the disk. They cannot crash there: both ways of reopening close.
func openDisk(t *testing.T) enginetest.Engine {
	dir := t.TempDir()
	open := func() *Store {
		t.Helper()
		s, err := Open(dir, small(Options{}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s := open()
	return enginetest.Engine{Store: s, Reopen: func(bool) engine.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open()
		return s
	}}
}

func TestConformanceOnDisk(t *testing.T) { enginetest.Run(t, openDisk) }

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"dense":                   {},
		"dense,notpipelined":      {NotPipelined: true},
		"sparse":                  {Sparse: true},
		"sparse,fdb":              {Sparse: true, FDBLimits: true},
		"sparse,fdb,notpipelined": {Sparse: true, FDBLimits: true, NotPipelined: true},
		"values":                  valuesOf(Options{}),
		"values,sparse,fdb":       valuesOf(Options{Sparse: true, FDBLimits: true}),
		"values,notpipelined":     valuesOf(Options{NotPipelined: true}),
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Run(t, func(t *testing.T) enginetest.Engine { return openMem(t, o) })
		})
	}
}

// diskLimit bounds the wait for what the store does about its disk by itself.
const diskLimit = 2 * time.Minute

// until polls a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(diskLimit); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", diskLimit, what)
		}
	}
}

// put commits one row.
func put(s *Store, key string, value []byte) error {
	return mutate(s, func(x engine.Txn) { x.Set([]byte(key), value) })
}

func mutate(s engine.Store, f func(x engine.Txn)) error {
	ctx, cancel := context.WithTimeout(context.Background(), diskLimit)
	defer cancel()
	x, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer x.Discard()
	f(x)
	p, err := x.Commit(ctx)
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}

func read(t *testing.T, s *Store, key string) []byte {
	t.Helper()
	r, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	v, err := r.Get(t.Context(), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(nil), v...)
}

// incompressible returns bytes that depend on i.
func incompressible(i, n int) []byte {
	b := make([]byte, n)
	x := uint64(i)*0x9e3779b97f4a7c15 + 1
	for j := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[j] = byte(x)
	}
	return b
}
