package sidebyside

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

var (
	sequences = flag.Int("sequences", 2000, "random sequences to run")
	seed      = flag.Uint64("seed", 0, "seed of the random sequences; 0: a new one")
	rounds    = flag.Int("rounds", 6, "rounds of the concurrent mode")
	workers   = flag.Int("workers", 8, "pairs of servers at once")
	duration  = flag.Duration("duration", 50*time.Second, "start no more random sequences after this; 0: no limit")
	sutName   = flag.String("sut", "headwater",
		"server under test: headwater, etcd, keyspaces (of one process), pods (on the engine of "+
			"HEADWATER_TEST_ENGINE), or faults (pods whose engine has bad days)")
	podsLog  = flag.Bool("podslog", false, "let pods log to standard error")
	onlyCase = flag.String("case", "", "run only the kept cases whose name contains this")
)

func TestMain(m *testing.M) {
	// Parallel tests wait most of the time: for etcd, for elections, for silence.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	before := goleak.IgnoreCurrent()
	code := m.Run()
	hw.Cleanup()
	os.Exit(leaktest.Code(code, before, testengine.IgnoreThreads()))
}

func runSeed() uint64 {
	if *seed != 0 {
		return *seed
	}
	return rand.Uint64N(1 << 32)
}

// TestRandom compares random sequences.
func TestRandom(t *testing.T) { runRandom(t, sut(t), *duration) }

func runRandom(t *testing.T, under starter, duration time.Duration) {
	t.Helper()
	r := &Runner{NewPair: func() (*Pair, error) {
		return NewPair(under)
	}, Seed: runSeed(), Count: *sequences, Workers: *workers}
	if duration > 0 {
		r.Until = time.Now().Add(duration)
	}
	t.Logf("seed %d", r.Seed)
	failures, err := r.Run()
	t.Log(r.Summary())
	for _, f := range failures {
		t.Errorf("%s", f)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCases replays the cases in testdata: quirks that were written down by hand, and reduced sequences that failed
// once.
func TestCases(t *testing.T) { runCases(t, sut(t), keptCases(t)) }

// keptCases are the cases that -case selects.
func keptCases(t *testing.T) []Case {
	t.Helper()
	cases, err := LoadCases("testdata/cases")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(cases, func(c Case) bool { return !strings.Contains(c.Name, *onlyCase) })
}

func runCases(t *testing.T, under starter, cases []Case) {
	t.Helper()
	var pair *Pair
	defer func() {
		if pair != nil {
			pair.Close()
		}
	}()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			ops, err := c.Parse()
			if err != nil {
				t.Fatal(err)
			}
			if pair != nil && c.Fresh {
				pair.Close()
				pair = nil
			}
			if pair == nil {
				if pair, err = NewPair(under); err != nil {
					t.Fatal(err)
				}
			}
			d, err := pair.Replay(ops)
			if d == nil && err == nil {
				return
			}
			pair.Close()
			pair = nil
			var inconclusive *InconclusiveError
			if errors.As(err, &inconclusive) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Errorf("%s\n%s", c.Note, d)
		})
	}
}
