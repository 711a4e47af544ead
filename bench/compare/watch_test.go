package compare

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/watchload"
)

func watchSample(others float64, values map[string]float64) watchload.Result {
	return watchload.Result{Command: "watch", Values: values, Others: others}
}

// watchReport is a report of made-up watch measurements.
func watchReport() *report {
	fan := func(cpu, p99 float64) map[string]float64 {
		return map[string]float64{
			watchload.EventsPerSecond: 100_000, watchload.CPUPerEvent: cpu, watchload.EventP50: 0.004,
			watchload.EventP99: p99, watchload.RSSMax: 50 << 20,
		}
	}
	return &report{
		Command: "compare --watch", Machine: []string{"a machine"},
		Watch: []watchResult{
			{ID: "watch-fan", Work: "a fan", Samples: map[string][]watchload.Result{
				nameEtcd:      {watchSample(0.1, fan(4e-6, 0.08)), watchSample(0.2, fan(6e-6, 0.04))},
				nameHeadwater: {watchSample(0.3, fan(1e-6, 0.04)), watchSample(0.1, fan(2e-6, 0.04))},
			}},
			{ID: "watch-stalled", Work: "stalled", Samples: map[string][]watchload.Result{
				nameHeadwater: {
					watchSample(
						0,
						map[string]float64{
							watchload.WithoutBeside: 10_000,
							watchload.WithBeside:    9000,
							watchload.BesideRatio:   0.9,
						},
					),
				},
			}},
			{
				ID:   "watch-memory",
				Work: "memory",
				Samples: map[string][]watchload.Result{
					nameEtcd: {watchSample(0, map[string]float64{watchload.RSSPerWatcher: 2000})},
				},
			},
		},
		Curve: []curvePoint{
			{
				Watchers: 10,
				Samples: map[string]watchload.Result{
					nameEtcd:      watchSample(0, fan(4e-6, 0.08)),
					nameHeadwater: watchSample(0, fan(1e-6, 0.04)),
				},
			},
			{Watchers: 1000, Samples: map[string]watchload.Result{nameHeadwater: watchSample(0, fan(1e-6, 0.04))}},
		},
	}
}

func TestWatchMarkdown(t *testing.T) {
	text := watchReport().markdown()
	for _, want := range []string{
		"| a fan | events delivered | 100,000/s | 100,000/s | 1.00 (1.00–1.00) |  | 0.30 |\n",
		"|  | server CPU per event | 5.00 µs | 1.50 µs | 0.30 (0.25–0.33) | × ≤ 0.35: yes |  |\n",
		"|  | p99 write sent → event | 60.00 ms | 40.00 ms | 0.67 (0.50–1.00) | × ≤ 0.50: no |  |\n",
		"|  | with ÷ without | – | 0.90 | – | ≥ 0.95: no |  |\n",
		"| memory | RSS per watcher, streams included | 2,000 B | – | – | not measured | 0.00 |\n",
		"| 10 | 100,000, 100,000 | 4.00, 1.00 | –, – | 50, 50 | 4.00, 4.00 | 80.00, 40.00 |\n",
		"| 1,000 | –, 100,000 | –, 1.00 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "## Loads") {
		t.Error("a report without loads has a table of them")
	}
}

func TestWatchRows(t *testing.T) {
	c := &Config{
		WatchMany: 50, WatchStreams: 5, WatchReconnect: 20, WatchHistory: 40, WatchStalled: 3, WatchBehind: 7,
		WatchStorm: 200,
	}
	for _, row := range watchRows() {
		if _, kv := rowByID(row.id); kv {
			t.Errorf("%s names two loads", row.id)
		}
		if !strings.HasPrefix(row.args(c)[0], "watch-") || row.workOf(c) == "" || len(row.measures) == 0 {
			t.Errorf("row %s: %v, %q", row.id, row.args(c), row.workOf(c))
		}
	}
	if _, ok := watchRowByID("put"); ok {
		t.Error("put is a watch load")
	}
}

func TestWatchConfig(t *testing.T) {
	parse := func(args ...string) (*Config, error) {
		c := &Config{}
		f := c.FlagSet()
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if err := c.preset(f); err != nil {
			return nil, err
		}
		return c, c.validate()
	}
	c, err := parse("--watch")
	if err != nil || len(c.Rows) != len(watchRows()) || c.MemoryKeys != 0 || c.BigBytes != 0 ||
		len(c.WatchCurve) != 6 || c.WatchMany != 100_000 || len(c.Targets) != 2 {
		t.Errorf("watch: %+v, %v", c, err)
	}
	c, err = parse("--watch", "--quick", "--rows=watch-fan,put", "--watch-curve=")
	if err != nil || len(c.Rows) != 2 || len(c.WatchCurve) != 0 || c.WatchMany != 1000 {
		t.Errorf("quick watch: %+v, %v", c, err)
	}
	if c, err = parse(); err != nil || len(c.Rows) != len(rows()) || len(c.WatchCurve) != 0 {
		t.Errorf("default: %+v, %v", c, err)
	}
	for _, bad := range []string{
		"--watch-curve=11", "--watchers=1001", "--watch-reconnect=301", "--watch-curve=x", "--watch-history=10",
		"--watch-stalled=0", "--watch-behind=0", "--watch-storm=251", "--cpuprofile=watch-fan",
	} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

func TestDocs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "benchmarks.md")
	const text = "# T\n<!-- kv: begin -->\nkept\n<!-- kv: end -->\n<!-- watch: begin -->\nold\n<!-- watch: end " +
		"-->\nbetween\n<!-- curves: begin -->\n<!-- curves: end -->\nlast\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	r := watchReport()
	if err := r.writeDocs(path); err != nil {
		t.Fatal(err)
	}
	first := read()
	for _, want := range []string{
		"<!-- kv: begin -->\nkept\n<!-- kv: end -->", "\n### Watches\n", "* a machine\n", "\nbetween\n", "\nlast\n",
		"](benchmarks/watch-p99.svg)", "\n### Watchers of one prefix",
	} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in\n%s", want, first)
		}
	}
	if strings.Contains(first, "old") {
		t.Error("the old section is still there")
	}
	for _, c := range r.charts() {
		if b, err := os.ReadFile(filepath.Join(dir, chartDir, c.file)); err != nil ||
			!strings.Contains(string(b), "</svg>") {
			t.Errorf("%s: %v", c.file, err)
		}
	}
	if err := r.writeDocs(path); err != nil || read() != first {
		t.Errorf("writing twice changed the document (%v)", err)
	}
	kv := &report{Rows: []rowResult{{
		ID: "put", Work: "put", Samples: map[string][]load.Result{nameEtcd: {sample(1, 1, 1)}},
	}}}
	if err := kv.writeDocs(path); err != nil || !strings.Contains(read(), "### Loads") ||
		!strings.Contains(read(), "### Watches") {
		t.Errorf("keys were not written beside watches (%v):\n%s", err, read())
	}
	if err := os.WriteFile(path, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.writeDocs(path); err == nil || !strings.Contains(err.Error(), "no section") {
		t.Errorf("a document without sections: %v", err)
	}
}

// TestDocument checks that the document in the tree has the sections.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/benchmarks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sectionKV, sectionValues, sectionSpace, sectionWatch, sectionCurve} {
		if _, err := ReplaceSection(string(b), name, ""); err != nil {
			t.Error(err)
		}
	}
}

// TestWatchRounds runs watch loads with a tool that prints a fixed result. It goes through all of the runner except the
// builds.
func TestWatchRounds(t *testing.T) {
	tg := child(t)
	tg.name = nameEtcd
	dir := t.TempDir()
	result, err := json.Marshal(watchSample(0.5, map[string]float64{watchload.EventP99: 1}))
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(dir, "tool")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\ncase \"$*\" in watch-fan*) echo '"+string(result)+
		"';; *) echo no such load >&2; exit 1;; esac\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := &Config{
		Dir: t.TempDir(), Rows: []string{"put", "watch-fan", "watch-stalled"}, Rounds: 2, Duration: time.Second,
		WatchCurve: []int{10}, NoiseMax: 1, WatchStalled: 1,
	}
	r := &runner{
		cfg: cfg, bin: &binaries{hwbench: tool, targets: []*target{tg}}, log: slog.New(slog.DiscardHandler),
		rep: &report{},
	}
	r.watches(t.Context())
	if len(r.rep.Watch) != 2 || len(r.rep.Watch[0].Samples[nameEtcd]) != 2 || len(r.rep.Watch[1].Samples) != 0 {
		t.Errorf("watch results %+v", r.rep.Watch)
	}
	if len(r.rep.Curve) != 1 || r.rep.Curve[0].Samples[nameEtcd].Values[watchload.EventP99] != 1 {
		t.Errorf("curve %+v", r.rep.Curve)
	}
	if len(r.failures) != 1 || !strings.Contains(r.failures[0].Error(), "no such load") {
		t.Errorf("failures %v, want the stalled load's", r.failures)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
