package fdb

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/tests/stack"
)

// everything is one round of all rows, with every goal met.
func everything() map[string][]sample {
	all := map[string][]sample{}
	for _, id := range rowIDs() {
		all[id] = []sample{{
			rate: 1e6, p50: 0.001, p99: 0.002, cpu: cores{kindKV: 0.5, stack.KindFDB: 0.25},
			values: map[string]float64{valueCPU: 1, valueGroup: 12.5},
		}}
	}
	return all
}

func TestVerdicts(t *testing.T) {
	goals := 0
	for _, r := range rows() {
		v := r.verdict(everything())
		goals += len(v.goals)
		if v.result == "" || strings.Contains(v.reached(), "no;") || strings.HasSuffix(v.reached(), ": no") {
			t.Errorf("%s: %q, %q", r.id, v.result, v.reached())
		}
	}
	if goals != 29 {
		t.Errorf("%d goals", goals)
	}
	for id, s := range map[string]sample{
		"put1":              {p50: 0.0014},
		"create":            {rate: 499_999},
		"update":            {rate: 429_999},
		"range":             {rate: 949_999},
		"list":              {rate: 175_999},
		"keepalive":         {rate: 14_999, values: map[string]float64{valueKeeper: 26e-6}},
		"keepalive-streams": {rate: 24_999, values: map[string]float64{valueKeeper: 26e-6}},
		"revoke-1000":       {values: map[string]float64{valueTime: 0.051}},
		"revoke-2500":       {values: map[string]float64{valueTime: 0.101}},
		"revoke-10000":      {values: map[string]float64{valueTime: 0.401}},
		"delete-1000":       {values: map[string]float64{valueTime: 0.061, valueBeside: 0.051}},
		"delete-10000":      {values: map[string]float64{valueTime: 0.501, valueBeside: 0.051}},
		"one-key-200":       {rate: 94, values: map[string]float64{valueApart: 100}},
		"one-key-2000":      {rate: 94, values: map[string]float64{valueApart: 100}},
		"one-key-10000":     {rate: 94, values: map[string]float64{valueApart: 100}},
		"idle":              {values: map[string]float64{valuePods: 0.021}},
		"count":             {p50: 0.051},
		"first-page":        {p50: 0.021},
		"conflicts":         {values: map[string]float64{valueConflicts: 1}},
		"event":             {p50: 0.0081, p99: 0.026, values: map[string]float64{valuePutP50: 0.003}},
		"catch-up":          {rate: 199, values: map[string]float64{valueWritten: 100}},
		"watchers":          {values: map[string]float64{valueCPU: 1.04}},
		rowKeyspaces:        {rate: 1e6, p50: 0.0021, cpu: cores{kindKV: 0.7, stack.KindFDB: 0.44}},
	} {
		all := everything()
		all[id] = []sample{s}
		i := slices.IndexFunc(rows(), func(r row) bool { return r.id == id })
		if got := rows()[i].verdict(all).reached(); strings.Contains(got, "yes") || got == "" {
			t.Errorf("%s: %q", id, got)
		}
	}
}

func TestReport(t *testing.T) {
	r := report{
		machine: []string{"a machine"}, command: "bench-fdb --x", samples: everything(),
		failed: []string{"what failed"},
	}
	delete(r.samples, "list")
	delete(r.samples, "raw")
	r.samples["catch-up"][0].cpu = nil
	text := r.markdown()
	for _, want := range []string{
		"* a machine\n", "* `bench-fdb --x`\n", "**Failed**: what failed",
		"| put, fresh keys, 20 × 200 | 1,000,000/s, 12.5 per group commit |  " +
			"| 1.00 | 2.00 | 0.50 | 0.25 | 0.00 | 0.50 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	columns := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		if n := strings.Count(line, "|"); columns == 0 {
			columns = n
		} else if n != columns {
			t.Errorf("%d columns, want %d: %s", n-1, columns-1, line)
		}
		if strings.Contains(line, "list") || strings.Contains(line, "NaN") {
			t.Error(line)
		}
	}
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte("before\n<!-- fdb: begin -->\nold\n<!-- fdb: end -->\nafter\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeDocs(path, text); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if doc := string(b); err != nil || !strings.HasPrefix(doc, "before\n") || !strings.HasSuffix(doc, "after\n") ||
		!strings.Contains(doc, text) || strings.Contains(doc, "old") {
		t.Errorf("%v %s", err, b)
	}
}

// TestDocument checks that the document has the section.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, mark := range []string{"begin", "end"} {
		if !strings.Contains(string(b), "<!-- "+section+": "+mark+" -->") {
			t.Error("no mark", mark)
		}
	}
}

// TestOrdinary: rows of many keyspaces are run only if they are named.
func TestOrdinary(t *testing.T) {
	for _, id := range ordinary() {
		if slices.Contains(keyspaceRows, id) {
			t.Error(id)
		}
	}
	if n := len(ordinary()); n != len(rowIDs())-len(keyspaceRows) {
		t.Errorf("%d rows", n)
	}
}

func TestConfig(t *testing.T) {
	parse := func(args ...string) (*Config, error) {
		c := &Config{}
		f := c.FlagSet()
		if err := f.Parse(args); err != nil {
			return c, err
		}
		return c, c.validate(f)
	}
	c, err := parse("--quick", "--rounds=2", "--rows=put,list", "--kv-arg=--lanes=8")
	if err != nil || c.Rounds != 2 || c.Duration.Seconds() != 2 || c.History != 10_000 || len(c.Rows) != 2 ||
		len(c.KVArgs) != 1 {
		t.Errorf("%+v %v", c, err)
	}
	for _, bad := range []string{
		"--rows=nothing", "--rounds=0", "--duration=1ms", "--watchers=49", "--keyspaces=0", "--keyspace-rate=0",
		"--watchers=51", "--history=1", "--count-keys=499", "--warmup=-1s",
	} {
		if _, err := parse(bad); err == nil {
			t.Error(bad, "passed")
		}
	}
}

func TestParseMetric(t *testing.T) {
	const text = "# HELP a_total x\na_total_more 9\na_total 3\nb{x=\"1\"} 5\n"
	if v, err := parseMetric(text, "a_total"); err != nil || v != 3 {
		t.Error(v, err)
	}
	for _, name := range []string{"a", "b", "c"} {
		if v, err := parseMetric(text, name); err == nil {
			t.Error(name, v)
		}
	}
}

func TestParseCommitted(t *testing.T) {
	const status = `{"cluster": {"workload": {"transactions": {"committed": {"counter": 1234, "hz": 5.5}}}}}`
	if n, err := parseCommitted([]byte(status)); err != nil || n != 1234 {
		t.Error(n, err)
	}
	for _, bad := range []string{"", "{}", `{"cluster": {"workload": {"transactions": {}}}}`} {
		if n, err := parseCommitted([]byte(bad)); err == nil {
			t.Errorf("%s: %v", bad, n)
		}
	}
}

func TestFreePorts(t *testing.T) {
	base, err := freePorts(t.Context())
	if err != nil || base < portsFrom || base+stack.PortsUsed > portsTo+stack.PortsUsed {
		t.Error(base, err)
	}
}
