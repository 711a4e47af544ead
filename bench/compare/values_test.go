package compare

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/bench/valueload"
	"github.com/headwaterdb/headwater/bench/watchload"
)

func TestValueRows(t *testing.T) {
	c := &Config{Quick: true, Warmup: time.Second, Duration: time.Second}
	for _, row := range valueRows() {
		_, kv := rowByID(row.id)
		if _, watch := watchRowByID(row.id); kv || watch {
			t.Errorf("%s names two loads", row.id)
		}
		if len(row.measures) == 0 || row.work == "" {
			t.Errorf("row %s shows no data", row.id)
		}
	}
	row, ok := valueRowByID("delete-2000x16k")
	if got := strings.Join(row.argsOf(c), " "); !ok || got != "delete --val-size=16384 --keys=100 --repeat=1" {
		t.Errorf("arguments %q", got)
	}
	row, ok = valueRowByID("update-100k")
	if got := row.argsOf(c); !ok || !slices.Contains(got, "--duration=1s") || !slices.Contains(got, "--keys=200") {
		t.Errorf("arguments %q", got)
	}
	if _, ok := valueRowByID("put"); ok {
		t.Error("put is a load of larger values")
	}
}

// TestValuesMarkdown measures another binary beside the two servers.
func TestValuesMarkdown(t *testing.T) {
	removal := func(time, p99 float64) []watchload.Result {
		return []watchload.Result{watchSample(0.1, map[string]float64{valueload.Time: time, valueload.PutP99: p99})}
	}
	rep := &report{
		Servers: []serverInfo{{Name: nameEtcd}, {Name: nameHeadwater}, {Name: nameBefore}},
		Values: []watchResult{
			{ID: "delete-400x256k", Work: "a delete", Samples: map[string][]watchload.Result{
				nameEtcd: removal(0.002, 0.001), nameHeadwater: removal(0.004, 0.004), nameBefore: removal(2, 2),
			}},
			{ID: "update-100k", Work: "an update", Samples: map[string][]watchload.Result{
				nameHeadwater: {watchSample(0, map[string]float64{valueload.WrittenPerByte: 1.25})},
			}},
			{ID: "delete-memory", Work: "memory", Samples: map[string][]watchload.Result{
				nameHeadwater: {watchSample(0, map[string]float64{valueload.RSSGrowth: 101 << 20})},
			}},
		},
	}
	text := rep.markdown()
	for _, want := range []string{
		"| a delete | request → answer | 2.00 ms | 4.00 ms | 2000.00 ms | 2.00 (2.00–2.00) | 0.00 (0.00–0.00) | × ≤ " +
			"3.00: yes | 0.10 |\n",
		"| 1.00 ms | 4.00 ms | 2000.00 ms | 4.00 (4.00–4.00) | 0.00 (0.00–0.00) | × ≤ 3.00: no |",
		"| bytes written ÷ bytes of values | – | 1.25 | – | – | – | ≤ 1.30: yes |",
		"| memory | growth of RSS to its peak | – | 101 MiB | – | – | – | ≤ 100 MiB: no |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestSpaceMarkdown(t *testing.T) {
	rep := &report{
		Servers: []serverInfo{{Name: nameEtcd}, {Name: nameHeadwater}},
		Space: []spaceResult{{Work: "a quota", Steps: map[string][]spaceStep{
			nameEtcd: {
				{Name: "compact", Answer: "ok", DBSize: 95e6, InUse: 45e6, Files: 180e6},
				{Name: "put", Answer: "ok, 30 puts", DBSize: 1e6},
			},
			nameHeadwater: {{Name: "compact", Answer: "no space | at all", Files: 1_499_999}},
		}}},
	}
	text := rep.markdown()
	for _, want := range []string{
		"| step | etcd | MB | headwater | MB |\n|---|---|---|---|---|\n",
		"| compact | ok | 95, 45, 180 | no space / at all | 0, 0, 1 |\n| put | ok, 30 puts | 1, 0, 0 | – | – |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestPartConfig(t *testing.T) {
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
	if c, err := parse("--values"); err != nil || len(c.Rows) != len(valueRows()) || c.Rounds != 3 ||
		c.MemoryKeys != 0 || len(c.Targets) != 2 {
		t.Errorf("values: %+v, %v", c, err)
	}
	if c, err := parse("--values", "--quick", "--rows=list-4k,delete-memory",
		"--cpuprofile=delete-400x256k"); err != nil || len(c.Rows) != 2 || c.Rounds != 1 {
		t.Errorf("quick values: %+v, %v", c, err)
	}
	if c, err := parse("--space", "--quick"); err != nil || len(c.Rows) != 0 || c.BigBytes != 0 ||
		c.SpaceIdle != 10*time.Second {
		t.Errorf("quick space: %+v, %v", c, err)
	}
	for _, bad := range [][]string{
		{"--values", "--watch"}, {"--space", "--values"}, {"--space", "--watch"}, {"--space-idle=-1s"},
	} {
		if _, err := parse(bad...); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

// TestSpaceOfServerThatFails checks that a server that cannot be started has no steps, and that it leaves nothing
// behind.
func TestSpaceOfServerThatFails(t *testing.T) {
	tg := child(t)
	tg.name = nameEtcd
	tg.args = func(string, int, int) []string { return []string{"null-server", "--no-such-flag"} }
	cfg := &Config{Dir: t.TempDir(), Space: true, Quick: true}
	r := &runner{
		cfg: cfg, bin: &binaries{hwbench: tg.binary, targets: []*target{tg}}, log: slog.New(slog.DiscardHandler),
		rep: &report{},
	}
	r.space(t.Context())
	if n := len(spaceRows(cfg)); len(r.failures) != n || len(r.rep.Space) != n ||
		len(r.rep.Space[0].Steps[nameEtcd]) != 0 {
		t.Errorf("failures %v, results %+v", r.failures, r.rep.Space)
	}
	if left, err := filepath.Glob(filepath.Join(cfg.Dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
