package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/headwaterdb/headwater/bench/valueload"
	"github.com/headwaterdb/headwater/bench/watchload"
)

// quickPart is what --quick divides keys of larger values by.
const quickPart = 20

// valueRow is one load of larger values.
type valueRow struct {
	id       string
	work     string
	args     []string // of hwbench, beside the following
	keys     int      // 0: as the load has it
	valSize  int
	window   bool // it takes --warmup and --duration
	restart  bool // the server is started anew between fill-values and the load
	measures []measure
}

// argsOf returns the command line of hwbench.
func (v *valueRow) argsOf(c *Config) []string {
	args := append(slices.Clone(v.args), v.size(c)...)
	switch {
	case v.window:
		args = append(args, "--warmup="+c.Warmup.String(), "--duration="+c.Duration.String())
	case c.Quick:
		args = append(args, "--repeat=1")
	}
	return args
}

func (v *valueRow) size(c *Config) []string {
	args := []string{"--val-size=" + strconv.Itoa(v.valSize)}
	if n := v.keys; n > 0 {
		if c.Quick && !v.window {
			n = max(1, n/quickPart)
		}
		args = append(args, flag("keys", n))
	}
	return args
}

// valueRows are the loads of larger values.
func valueRows() []valueRow {
	removal := []measure{
		{value: valueload.Time, title: "request → answer", format: millis, goal: atMost(3)},
		{value: valueload.TimeMax, title: "the slowest", format: millis},
		{value: valueload.PutMax, title: "another client's slowest put meanwhile", format: millis},
		{value: valueload.PutP99, title: "p99 of its puts from then on for 1 s", format: millis, goal: atMost(3)},
		{value: valueload.PutP50Before, title: "p50 of its puts before", format: millis},
		{value: valueload.PutP99Before, title: "p99 of its puts before", format: millis},
	}
	written := []measure{
		{value: valueload.PerSecond, title: "rate", format: perSec},
		{value: valueload.P50, title: "p50", format: millis},
		{value: valueload.P99, title: "p99", format: millis},
		{value: valueload.CPUPerUpdate, title: "server CPU each", format: micros},
		{value: valueload.WrittenPerByte, title: "bytes written ÷ bytes of values", format: asRatio},
		{value: valueload.CallsPerByte, title: "bytes handed to write(2) ÷ bytes of values", format: asRatio},
		{value: valueload.WrittenInWindow, title: "the same until the last answer", format: asRatio},
	}
	large := slices.Clone(written)
	large[4].own = atMost(1.3)
	memory := []measure{
		{value: valueload.RSSGrowth, title: "growth of RSS to its peak", format: mebibytes},
		{value: valueload.RSSPeak, title: "peak RSS", format: mebibytes},
		{value: valueload.RSSBefore, title: "RSS before", format: mebibytes},
	}
	memory[0].own = atMost(100 << 20)
	row := func(id, work string, keys, valSize int, measures []measure, args ...string) valueRow {
		return valueRow{id: id, work: work, keys: keys, valSize: valSize, measures: measures, args: args}
	}
	rows := []valueRow{
		row("delete-400x256k", "delete of a prefix of 400 × 256 KiB", 400, 256<<10, removal, "delete"),
		row("delete-2000x16k", "delete of a prefix of 2,000 × 16 KiB", 2000, 16<<10, removal, "delete"),
		row("delete-10000x1k", "delete of a prefix of 10,000 × 1 KiB", 10_000, 1<<10, removal, "delete"),
		row("revoke-2500x600", "revoke of a lease with 2,500 × 600 B", 2500, 600, removal, "revoke"),
		row("compact-800x128k", "compaction of 800 revisions × 128 KiB until they are removed", 800, 128<<10, removal,
			"compact"),
		row("update-100k", "update of 200 keys × 100 KiB, 20 clients", 200, 100<<10, large, "update-bytes",
			"--conns=10", "--clients=20"),
		row("update-16k", "update of 1,000 keys × 16 KiB, 50 clients", 1000, 16<<10, written, "update-bytes",
			"--conns=10", "--clients=50"),
		row("update-4k", "update of 10,000 keys × 4 KiB, 200 clients", 10_000, 4<<10, written,
			append([]string{"update-bytes"}, manyClients...)...),
		row("create-4k", "create of fresh keys × 4 KiB, 200 clients", 0, 4<<10, written,
			append([]string{"create-bytes"}, manyClients...)...),
		row("delete-memory", "delete of a prefix of 400 × 256 KiB with a watcher", 400, 256<<10, memory,
			"delete-memory"),
		row("delete-memory-prevkv", "the same, and the watcher wants the previous values", 400, 256<<10, memory,
			"delete-memory", "--prevkv"),
	}
	for i := range rows {
		rows[i].window = strings.HasSuffix(rows[i].args[0], "-bytes")
		rows[i].restart = rows[i].args[0] == "delete-memory"
	}
	return rows
}

func valueRowIDs() (ids []string) {
	for _, r := range valueRows() {
		ids = append(ids, r.id)
	}
	return ids
}

func valueRowByID(id string) (valueRow, bool) {
	all := valueRows()
	i := slices.IndexFunc(all, func(r valueRow) bool { return r.id == id })
	if i < 0 {
		return valueRow{}, false
	}
	return all[i], true
}

// values runs the loads of larger values, each in interleaved rounds. A server that fails in a load has no further
// rounds of that load.
func (r *runner) values(ctx context.Context) {
	for _, id := range r.cfg.Rows {
		row, ok := valueRowByID(id)
		if !ok {
			continue
		}
		r.rep.Values = append(r.rep.Values,
			r.rounds(ctx, id, row.work, func(ctx context.Context, t *target) (watchload.Result, error) {
				return r.quietly(ctx, t, row.work, func() (watchload.Result, error) {
					return r.valuesOnce(ctx, t, &row, row.argsOf(r.cfg), false)
				})
			}))
	}
}

// valuesOnce runs a load of larger values once on a fresh server.
func (r *runner) valuesOnce(ctx context.Context, t *target, row *valueRow, args []string,
	pprof bool,
) (res watchload.Result, err error) {
	dir, remove, err := tempDir(r.cfg.Dir)
	if err != nil {
		return res, err
	}
	defer remove()
	o := startOptions{dir: dir}
	if pprof {
		o.args = []string{"--enable-pprof"}
	}
	s, err := t.start(ctx, o)
	if err != nil {
		return res, err
	}
	defer func() { s.kill() }()
	if row.restart {
		if _, err := r.runHwbench(ctx, s, append([]string{"fill-values"}, row.size(r.cfg)...)...); err != nil {
			return res, err
		}
		if err := s.stop(); err != nil {
			return res, err
		}
		again, err := t.start(ctx, o)
		if err != nil {
			return res, err
		}
		s = again
	}
	out, err := r.runHwbench(ctx, s, args...)
	if err != nil {
		return res, err
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return res, fmt.Errorf("hwbench %s: %w", args[0], err)
	}
	return res, s.stop()
}

func (r *report) writeValues(b *strings.Builder) {
	r.writeMeasures(b, "Larger values", r.Values, func(id string) []measure {
		row, _ := valueRowByID(id) // if there is none, the zero row shows nothing
		return row.measures
	})
}
