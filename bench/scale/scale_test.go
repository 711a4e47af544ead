package scale

import (
	"flag"
	"math"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/scale.md anew")

const (
	benchmarksFile = "../../docs/benchmarks.md"
	pageFile       = "../../docs/scale.md"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPage: docs/scale.md says what the model computes from docs/benchmarks.md.
func TestPage(t *testing.T) {
	in, err := Read(read(t, benchmarksFile))
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, pageFile)
	head, rest, ok := strings.Cut(page, Begin)
	old, tail, ok2 := strings.Cut(rest, End)
	if !ok || !ok2 {
		t.Fatal("docs/scale.md has no marks")
	}
	want := "\n" + Page(in, Usual)
	if *rewrite {
		if err := os.WriteFile(pageFile, []byte(head+Begin+want+End+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != want {
		t.Error("docs/scale.md is not what the model computes: go test ./bench/scale -rewrite")
	}
}

// TestInputs: Read returns what the rows say, and its error names a row that is missing.
func TestInputs(t *testing.T) {
	text := read(t, benchmarksFile)
	in, err := Read(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]float64{
		"kv update": in.KVUpdate, "fdb update": in.FDBUpdate, "hub write": in.HubWrite, "kv range": in.KVRange,
		"fdb range": in.FDBRange, "event": in.Event,
	} {
		if v < 0.1e-6 || v > 1e-3 {
			t.Errorf("%s: %v s cannot be the cost of a request", name, v)
		}
	}
	if in.GroupSize < 2 || in.GroupSize > 32 || in.GroupsPerProxy < 10 || in.WatcherBytes < 100 ||
		in.CommitToEventSeconds <= 0 {
		t.Errorf("%+v", in)
	}
	for _, row := range []string{rowUpdate, rowRange, rowGroups, rowEvent, rowWatches, rowWatchers} {
		if _, err := Read(strings.ReplaceAll(text, row, "another")); err == nil {
			t.Errorf("the test does not miss the removed row %q", row)
		}
	}
}

// TestCompute: more nodes never need fewer resources, and the result says where it exceeds what one machine has
// measured.
func TestCompute(t *testing.T) {
	in := Inputs{
		KVUpdate: 50e-6, FDBUpdate: 70e-6, HubWrite: 10e-6, KVRange: 30e-6, FDBRange: 20e-6, Event: 1e-6,
		GroupSize: 28, GroupsPerProxy: 800,
	}
	var before Deployment
	for nodes := 1000.0; nodes < 1e6; nodes *= 2 {
		d := Compute(in, Usual, nodes)
		if d.KVPods < before.KVPods || d.Hubs < before.Hubs ||
			d.Processes < before.Processes || d.Cores < before.Cores {
			t.Errorf("%v nodes need %+v, half of them %+v", nodes, d, before)
		}
		before = d
	}
	small := Compute(in, Usual, 1000)
	if small.Writes != 150 || small.Events != 450 || small.KVPods != 2 || small.Hubs != 2 || small.Processes != 3 {
		t.Errorf("%+v", small)
	}
	if d := Compute(in, Usual, 1e7); !math.IsInf(d.Hubs, 1) {
		t.Errorf("%v hubs hear of %v writes/s", d.Hubs, d.Writes)
	}
}
