package simulation

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestChangedGo: the changes to Go's runtime fit the release that builds the tree, and no other one.
func TestChangedGo(t *testing.T) {
	if !simulatedPlatform {
		t.Skip("SKIPPED: the changes are for Linux")
	}
	dir, release, err := toolchain(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := changedGo(dir, release)
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range changed {
		if content != nil && strings.Contains(string(content), "//go:build js") {
			t.Errorf("%s is for js", file)
		}
	}
	for _, name := range []string{"src/net/simulation_fd.go", "src/net/simulation_net_fake.go", "src/runtime/proc.go"} {
		if changed[name] == nil {
			t.Errorf("%s is not there", name)
		}
	}
	for _, other := range []string{"go1.25.3", "go1.260", "go1.27", "devel"} {
		if _, err := changedGo(dir, other); !errors.Is(err, ErrUnknownGo) {
			t.Errorf("%s: %v", other, err)
		}
	}
	if _, err := changedGo(t.TempDir(), release); err == nil {
		t.Error("files that are not there have been changed")
	}
}

// exactRuns is how often a program is run to see whether its runs are alike.
const exactRuns = 20

// TestExact: runs of a program that is built with the changed runtime are exact, and bounded.
func TestExact(t *testing.T) {
	if !simulatedPlatform {
		t.Skip("SKIPPED: the changes to Go's runtime are for Linux")
	}
	tree, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	n, err := newNative(t.Context(), tree, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file, err := n.buildPackage(t.Context(), "exact", "./tests/simulation/testdata/exact", nil)
	if err != nil {
		t.Fatal(err)
	}
	p := nativeProgram(file)
	t.Run("alike", func(t *testing.T) { p.testAlike(t) })
	t.Run("elsewhere", func(t *testing.T) { p.testElsewhere(t) })
	t.Run("bounds", func(t *testing.T) { p.testBounds(t) })
}

// testAlike: runs with the same seed are the same, those with another one are not.
func (p nativeProgram) testAlike(t *testing.T) {
	of := func(seed uint64) *Result {
		t.Helper()
		r, err := p.run(t.Context(), run{seed: seed, simulatedMax: 2 * time.Hour, looksMax: looksMax})
		if err != nil {
			t.Fatal(err)
		}
		if r.Exit != 0 || r.Simulated < time.Hour {
			t.Fatalf("exit %d, %v simulated:\n%s\n%s", r.Exit, r.Simulated, r.Output, r.Log)
		}
		return r
	}
	first := of(1)
	for range exactRuns - 1 {
		if again := of(1); again.Sum() != first.Sum() {
			t.Fatalf("two runs of one seed:\n%s\nand:\n%s", first.Output, again.Output)
		}
	}
	if other := of(2); other.Sum() == first.Sum() {
		t.Error("two seeds give the same run")
	}
}

// testElsewhere: a machine whose processor has none of the optional instructions runs a program as others do.
func (p nativeProgram) testElsewhere(t *testing.T) {
	with := func(debug string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), string(p))
		cmd.Dir, cmd.Env = t.TempDir(), []string{"HEADWATER_SEED=1", "TZ=UTC", "TMPDIR=.", "GODEBUG=" + debug}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	here, there := with("none.all=off"), with("cpu.all=off")
	if !strings.Contains(here, "forgotten") {
		t.Error("no garbage was collected")
	}
	if here != there {
		t.Errorf("here:\n%s\nthere:\n%s", here, there)
	}
}

// testBounds: a program that comes to a bound of time is stuck, one that takes too much memory ends.
func (p nativeProgram) testBounds(t *testing.T) {
	for _, o := range []run{
		{simulatedMax: time.Minute, looksMax: looksMax}, {simulatedMax: 2 * time.Hour, looksMax: 100},
	} {
		r, err := p.run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Exit != exitStuck {
			t.Errorf("%+v: exit %d", o, r.Exit)
		}
	}
	r, err := p.run(t.Context(), run{args: []string{"hoard"}, simulatedMax: 2 * time.Hour, looksMax: looksMax})
	if err != nil {
		t.Fatal(err)
	}
	if r.Exit == 0 || !strings.Contains(string(r.Log), "out of memory") {
		t.Errorf("exit %d\n%s", r.Exit, r.Log)
	}
}
