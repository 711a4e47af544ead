package simulation

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// root is the tree, as seen from this package.
const root = "../.."

// TestPlanted: all planted faults fit the tree as it is, together, and each can be switched on.
func TestPlanted(t *testing.T) {
	all, err := Planted()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there are none")
	}
	if _, err := plantAll(root, all); err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		for _, c := range f.Changes {
			if !strings.Contains(c.New, "planted(\""+f.Name+"\")") {
				t.Errorf("%s cannot be switched on in %s", f.Name, c.File)
			}
		}
	}
}

func TestParseFault(t *testing.T) {
	f, err := parseFault("what: w\nfile: a.go\n<<<<\none\n====\ntwo\n>>>>\nfile: b.go\n<<<<\nthree\n\n====\n>>>>\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{{"a.go", "one", "two"}, {"b.go", "three\n", ""}}
	if f.What != "w" || len(f.Changes) != 2 || f.Changes[0] != want[0] || f.Changes[1] != want[1] {
		t.Errorf("%+v", f)
	}
	for _, bad := range []string{
		"", "what: w\n", "what: w\nfile: a\n<<<<\nx\n", "what: w\nx", "file: a\n<<<<\nx\n====\ny\n>>>>\n",
	} {
		if _, err := parseFault(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestVerdict(t *testing.T) {
	good := &Result{Output: []byte("1.0 plan x\nseen {\"fault: kill\":2}\nverdict: good\n")}
	if v, err := good.Verdict(); err != nil || !v.Good || v.Seen["fault: kill"] != 2 || len(v.Why) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	bad := &Result{Exit: 1, Output: []byte("2.0 judge OBJECTS: rows\nlog\nseen null\nverdict: failed\n")}
	if v, err := bad.Verdict(); err != nil || v.Good || strings.Join(v.Why, ";") != "rows;log" {
		t.Errorf("%+v, %v", v, err)
	}
	crashed := &Result{Exit: 2, Output: []byte("1.0 plan x\n"), Log: []byte("a\npanic: b\n")}
	if v, err := crashed.Verdict(); err != nil || v.Good || !strings.Contains(v.Why[0], "panic: b") {
		t.Errorf("%+v, %v", v, err)
	}
	lying := &Result{Exit: 2, Output: []byte("verdict: good\n")}
	if v, err := lying.Verdict(); err != nil || v.Good {
		t.Errorf("%+v, %v", v, err)
	}
}

// raceDetector says that the race detector is on.
var raceDetector bool

// shortSeeds are those that TestSeed runs. They are fixed: other ones are for make simulate.
const shortSeeds = 3

// TestSeed runs the first seeds of the short plan, each twice, alike, on the host that HEADWATER_SIMULATE names, or any.
// It builds the program first.
func TestSeed(t *testing.T) {
	if testing.Short() || raceDetector { // which would look at the host, not at the program
		t.Skip("SKIPPED: no seed of the simulation is run (make simulate-short)")
	}
	tree, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), os.Getenv("HEADWATER_SIMULATE"), tree, filepath.Join(tree, "bin", "simulation"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.WithoutCancel(t.Context()))
	p, err := s.Program(t.Context(), "guest", nil)
	if err != nil {
		t.Fatal(err)
	}
	var results [2 * shortSeeds]*Result
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i := range results {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			plan := ShortPlan(1 + uint64(i/2))
			r, v, err := p.Execute(t.Context(), plan)
			switch {
			case err != nil:
				t.Errorf("seed %d: %v", plan.Seed, err)
				return
			case !v.Good:
				t.Errorf("%s\n%s", strings.Join(v.Why, "\n"), plan.Command(s.Host()))
			}
			t.Logf("seed %d: %v simulated in %v", plan.Seed, r.Simulated, r.Took)
			results[i] = r
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i := 0; i < len(results); i += 2 {
		if results[i].Sum() != results[i+1].Sum() {
			t.Errorf("two runs of seed %d differ", 1+i/2)
		}
		if i > 0 && results[i].Sum() == results[0].Sum() {
			t.Errorf("seed %d gives the same run as seed 1", 1+i/2)
		}
	}
}
