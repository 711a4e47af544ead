package simulation

import (
	"os"
	"path/filepath"
	"strings"
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

// TestSeed runs one short seed twice, alike, on the host that HEADWATER_SIMULATE names; 1: any. Without it the test is
// skipped: where nothing is built yet, what it needs takes more than all else here.
func TestSeed(t *testing.T) {
	host := os.Getenv("HEADWATER_SIMULATE")
	if host == "" {
		t.Skip("SKIPPED: HEADWATER_SIMULATE is not set (make simulate-short)")
	}
	tree, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), strings.TrimPrefix(host, "1"), tree, filepath.Join(tree, "bin", "simulation"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	p, err := s.Program(t.Context(), "guest", nil)
	if err != nil {
		t.Fatal(err)
	}
	plan := ShortPlan(1)
	first, v, err := p.Execute(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Good {
		t.Errorf("%s\n%s", strings.Join(v.Why, "\n"), plan.Command(s.Host()))
	}
	again, err := p.Run(t.Context(), plan)
	if err != nil {
		t.Fatal(err)
	}
	if first.Sum() != again.Sum() {
		t.Error("two runs of one seed differ")
	}
	other, err := p.Run(t.Context(), ShortPlan(plan.Seed+1))
	if err != nil {
		t.Fatal(err)
	}
	if first.Sum() == other.Sum() {
		t.Error("two seeds give the same run")
	}
}
