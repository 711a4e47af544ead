package compare

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/headwaterdb/headwater/bench/cli"
	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/proc"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

// asHwbench makes the test binary behave as hwbench, so that tests have a server and a load tool to run as children.
const asHwbench = "HEADWATER_BENCH_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(asHwbench) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := cli.New(os.Stdout).ExecuteContext(ctx)
		stop()
		if err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	leaktest.Main(m)
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		in := append([]float64(nil), tt.in...)
		if got := Median(in); got != tt.want {
			t.Errorf("Median(%v) = %v, want %v", tt.in, got, tt.want)
		}
		if d := cmp.Diff(tt.in, in); d != "" {
			t.Errorf("median changed its input: %s", d)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of no values is a number")
	}
}

func TestRatio(t *testing.T) {
	got, ok := ratioOf([]float64{20, 30, 25}, []float64{10, 20, 10})
	if want := (ratio{median: 2.5, min: 1.5, max: 2.5}); !ok || got != want {
		t.Errorf("ratioOf = %+v, %v; want %+v", got, ok, want)
	}
	if got.String() != "2.50 (1.50–2.50)" {
		t.Errorf("String = %q", got)
	}
	for _, bad := range [][2][]float64{{nil, {1}}, {{1}, nil}, {{1}, {0}}, {{1, 1}, {1, 0}}} {
		if r, ok := ratioOf(bad[0], bad[1]); ok {
			t.Errorf("ratioOf(%v, %v) = %v, want none", bad[0], bad[1], r)
		}
	}
}

func TestJudge(t *testing.T) {
	g := goal{rate: 1.5, ceiling: 0.65, cpu: 0.65}
	got := g.judge(&ratio{median: 1.5}, &ratio{median: 0.64}, &ratio{median: 0.65}, nil)
	if want := "rate ≥ 1.50: yes; ceiling ≥ 0.65: no; CPU ≤ 0.65: yes"; got != want {
		t.Errorf("judge = %q, want %q", got, want)
	}
	if got := (goal{p50: 1}).judge(nil, nil, nil, nil); got != "p50 ≤ 1.00: not measured" {
		t.Errorf("judge = %q", got)
	}
	if got := (goal{}).judge(nil, nil, nil, nil); got != "" {
		t.Errorf("judge without a goal = %q", got)
	}
}

func TestThousands(t *testing.T) {
	for in, want := range map[float64]string{
		0: "0", 999: "999", 1000: "1,000", 1234567.4: "1,234,567", -1234: "-1,234",
	} {
		if got := Thousands(in); got != want {
			t.Errorf("Thousands(%v) = %q, want %q", in, got, want)
		}
	}
}

func sample(perSecond, cpuMicros, p50Millis float64) load.Result {
	return load.Result{
		PerSec:    perSecond,
		Latencies: []load.Latency{{Kind: "put", P50: time.Duration(p50Millis * float64(time.Millisecond))}},
		Server:    &load.Server{CPUPerUnit: cpuMicros / 1e6, Memory: proc.Memory{RSS: 10 << 20}, Others: 0.5},
	}
}

func TestMarkdown(t *testing.T) {
	rep := &report{
		Command: "compare --quick",
		Machine: []string{"a machine"},
		Notes:   []string{"a note"},
		Servers: []serverInfo{
			{Name: nameEtcd, Title: "etcd 3.7"},
			{Name: nameHeadwater, Title: "headwater 0"},
			{Name: nameNull, Title: "null"},
		},
		Rows: []rowResult{
			{ID: "put", Work: "put, fresh keys", Samples: map[string][]load.Result{
				nameEtcd:      {sample(10_000, 60, 9), sample(20_000, 50, 8)},
				nameHeadwater: {sample(30_000, 30, 5), sample(30_000, 30, 5)},
				nameNull:      {sample(50_000, 15, 4), sample(50_000, 15, 4)},
			}},
			{
				ID:   "put1",
				Work: "put, 1 client: p50",
				Samples: map[string][]load.Result{
					nameEtcd:      {sample(3000, 1, 0.4)},
					nameHeadwater: {sample(3000, 1, 0.2)},
				},
			},
		},
		Memory: []memoryResult{
			{
				Server:  nameEtcd,
				Keys:    1000,
				ValSize: 10,
				Loaded:  proc.Memory{RSS: 200 << 20},
				Starts:  []float64{2},
				Stops:   []float64{1},
			},
			{
				Server:  nameHeadwater,
				Keys:    1000,
				ValSize: 10,
				Loaded:  proc.Memory{RSS: 80 << 20},
				Starts:  []float64{0.8},
				Stops:   []float64{1},
			},
		},
		Big: []bigResult{
			{
				Server:  nameHeadwater,
				Bytes:   2e9,
				ValSize: 4096,
				Limit:   1 << 30,
				Memory:  proc.Memory{RSS: 900 << 20, Anon: 800 << 20},
			},
		},
		Profiles: []profileResult{{Work: "put", Server: nameHeadwater, Cumulative: "cum", Flat: "flat"}},
	}
	text := rep.markdown()
	for _, want := range []string{
		"| put, fresh keys | 15,000/s | 30,000/s | 50,000/s | 2.00 (1.50–3.00) | 0.60 (0.60–0.60) | " +
			"55.00 | 30.00 | 15.00 | 0.55 (0.50–0.60) | rate ≥ 1.50: yes; ceiling ≥ 0.65: no; CPU ≤ 0.65: yes |\n",
		"| put, 1 client: p50 | 0.40 ms | 0.20 ms | – | 0.50 (0.50–0.50) | – | " +
			"1.00 | 1.00 | – | 1.00 (1.00–1.00) | p50 ≤ 1.00: yes |\n",
		"| put, fresh keys | etcd | 8.50 | 0.00 | 0.00 | 0.00 | 0.00 | 10 | 0.50 |\n",
		"RSS 0.40 (goal ≤ 0.5: yes), start 0.40 (goal ≤ 0.3: no)",
		"2.0 GB of values of 4096 bytes in a server limited to 1024 MiB",
		"GOMEMLIMIT only",
		"a note", "cum", "flat",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	columns := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		n := strings.Count(line, "|")
		if columns != 0 && n != columns {
			t.Errorf("a row of %d columns in a table of %d: %s", n-1, columns-1, line)
		}
		columns = n
	}
}

func TestConfig(t *testing.T) {
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
	c, err := parse("--quick", "--rounds=5")
	if err != nil || c.Rounds != 5 || c.Duration != 2*time.Second || c.BigBytes != 0 {
		t.Errorf("quick: %+v, %v", c, err)
	}
	if c, err := parse(); err != nil || c.Rounds != 3 || len(c.Rows) != len(rows()) {
		t.Errorf("default: %+v, %v", c, err)
	}
	for _, bad := range [][]string{
		{"--quick", "--long"},
		{"--rows=x"},
		{"--targets=x"},
		{"--rounds=0"},
		{"--cpuprofile=x"},
		{"--cpuprofile-target=null"},
		{"--memory-keys=-1"},
		{"--retries=-1"},
	} {
		if _, err := parse(bad...); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

func TestFindRoot(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "go.work"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := FindRoot(deep); err != nil || got != root {
		t.Errorf("FindRoot = %q, %v; want %q", got, err, root)
	}
	if _, err := FindRoot("/"); err == nil {
		t.Error("found a root at /")
	}
}

func TestMemoryGroup(t *testing.T) {
	g, err := newMemoryGroup(t.TempDir(), 123) // a plain directory takes the same writes
	if err != nil {
		t.Fatal(err)
	}
	if err := g.add(42); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"memory.max": "123", "cgroup.procs": "42"} {
		b, err := os.ReadFile(filepath.Join(g.dir, file))
		if err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", file, b, err, want)
		}
	}
	if _, err := newMemoryGroup(filepath.Join(t.TempDir(), "none"), 1); err == nil {
		t.Error("a group was made in a directory that does not exist")
	}
}

// child returns the null server as a target, with the test binary as its program.
func child(t *testing.T) *target {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(asHwbench, "1")
	return nullTarget(exe)
}

func TestServerLife(t *testing.T) {
	tg := child(t)
	s, err := tg.start(t.Context(), startOptions{dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proc.ReadMemory(s.pid()); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "ended before it was stopped") {
		t.Errorf("stop of an ended server: %v", err)
	}
	s.kill() // on a server that has ended this does nothing
}

func TestServerEndsWithContext(t *testing.T) {
	tg := child(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := tg.start(ctx, startOptions{dir: filepath.Join(t.TempDir(), "data")})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	cancel()
	<-s.exited
}

func TestServerThatFails(t *testing.T) {
	tg := child(t)
	tg.args = func(string, int, int) []string { return []string{"null-server", "--no-such-flag"} }
	_, err := tg.start(t.Context(), startOptions{dir: filepath.Join(t.TempDir(), "data")})
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("error %v does not show the server's log", err)
	}
}

// TestRounds runs rows against null servers instead of the real ones. It goes through all of the runner except the
// builds.
func TestRounds(t *testing.T) {
	tg := child(t)
	// On a busy machine nothing may be answered within a short window.
	for window := 50 * time.Millisecond; !roundsAnswered(t, tg, window); window *= 4 {
		if window > 30*time.Second {
			t.Fatal("no request was answered")
		}
	}
}

// roundsAnswered runs rounds with a window, and says whether a request was answered within it.
func roundsAnswered(t *testing.T, tg *target, window time.Duration) bool {
	t.Helper()
	cfg := &Config{
		Dir: t.TempDir(), Rows: []string{"put", "list"}, Rounds: 2, Duration: window,
		Warmup: 10 * time.Millisecond, NoiseMax: 100,
	}
	var logged bytes.Buffer
	r := &runner{
		cfg: cfg, bin: &binaries{hwbench: tg.binary, targets: []*target{tg}},
		log: slog.New(slog.NewTextHandler(&logged, nil)), rep: &report{},
	}
	r.loads(t.Context())
	if len(r.failures) > 0 {
		t.Fatal(r.failures)
	}
	var got []int
	for _, row := range r.rep.Rows {
		got = append(got, len(row.Samples[nameNull]))
	}
	if d := cmp.Diff([]int{2, 0}, got); d != "" { // the null server cannot list
		t.Error(d)
	}
	s := r.rep.Rows[0].Samples[nameNull][0]
	if s.Errors != 0 {
		t.Errorf("sample %+v", s)
	}
	if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return s.Ops > 0
}

// TestFailures checks that a failed load is named and has no numbers, and that an interruption is named once.
func TestFailures(t *testing.T) {
	tg := child(t)
	tg.args = func(string, int, int) []string { return []string{"null-server", "--no-such-flag"} }
	cfg := &Config{
		Dir: t.TempDir(), Rows: []string{"put", "lease"}, Rounds: 2, Duration: time.Millisecond,
		Profile: []string{"put"}, ProfileTarget: nameHeadwater,
	}
	r := &runner{
		cfg: cfg, bin: &binaries{hwbench: tg.binary, targets: []*target{tg}}, log: slog.New(slog.DiscardHandler),
		rep: &report{},
	}
	r.loads(t.Context())
	r.profiles(t.Context())
	if len(r.failures) != 3 || len(r.rep.Notes) != 3 || len(r.rep.Rows[0].Samples) != 0 {
		t.Errorf("failures %v, notes %v, rows %v; want one failure for each row and one for the profile", r.failures,
			r.rep.Notes, r.rep.Rows)
	}
	if !strings.Contains(r.rep.markdown(), "**Failed**: put, fresh keys on null, round 1") {
		t.Errorf("the report does not name the failure:\n%s", r.rep.markdown())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.loads(ctx)
	if len(r.failures) != 4 {
		t.Errorf("failures %v; want the interruption once", r.failures)
	}
}
