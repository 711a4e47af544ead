package sidebyside

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

var (
	sequences = flag.Int("sequences", 2000, "random sequences to run")
	seed      = flag.Uint64("seed", 0, "seed of the random sequences; 0: a new one")
	workers   = flag.Int("workers", 8, "pairs of servers at once")
	duration  = flag.Duration("duration", 50*time.Second, "start no more random sequences after this; 0: no limit")
	sutName   = flag.String("sut", "headwater", "server under test: headwater or etcd")
	onlyCase  = flag.String("case", "", "run only the kept cases whose name contains this")
)

func TestMain(m *testing.M) {
	before := goleak.IgnoreCurrent()
	code := m.Run()
	hw.Cleanup()
	if code == 0 {
		if err := goleak.Find(before); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// sut starts the server under test that -sut names.
func sut(tb testing.TB) func() (*Target, error) {
	tb.Helper()
	switch *sutName {
	case "headwater":
		program := hw.Headwater(tb)
		return func() (*Target, error) { return NewHeadwater(tb, program) }
	case "etcd":
		return func() (*Target, error) { return NewEtcd("etcd as the server under test") }
	}
	tb.Fatalf("unknown -sut %q", *sutName)
	return nil
}

func runSeed() uint64 {
	if *seed != 0 {
		return *seed
	}
	return rand.Uint64N(1 << 32)
}

// TestRandom compares random sequences.
func TestRandom(t *testing.T) {
	under := sut(t)
	r := &Runner{NewPair: func() (*Pair, error) { return NewPair(under) }, Seed: runSeed(), Count: *sequences, Workers: *workers}
	if *duration > 0 {
		r.Until = time.Now().Add(*duration)
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

// TestCases replays the kept cases: quirks written down by hand, and reduced sequences that failed once.
func TestCases(t *testing.T) {
	cases, err := LoadCases("testdata/cases")
	if err != nil {
		t.Fatal(err)
	}
	under := sut(t)
	var pair *Pair
	defer func() {
		if pair != nil {
			pair.Close()
		}
	}()
	for _, c := range cases {
		if !strings.Contains(c.Name, *onlyCase) {
			continue
		}
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
