package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/headwaterdb/headwater/bench/watchload"
)

// watchConns is the number of connections that watchers share, in all loads that use more than one.
const watchConns = 10

// watchResult is a watch load's samples by server, one per round.
type watchResult struct {
	ID      string                        `json:"id"`
	Work    string                        `json:"work"`
	Samples map[string][]watchload.Result `json:"samples"`
}

// curvePoint is watchload.Fan at a fixed rate of writes with so many watchers.
type curvePoint struct {
	Watchers int                         `json:"watchers"`
	Samples  map[string]watchload.Result `json:"samples"` // by server
}

// watches runs the watch loads, each in interleaved rounds, then the curves. A server that fails in a load has no
// further rounds of that load.
func (r *runner) watches(ctx context.Context) {
	for _, id := range r.cfg.Rows {
		row, ok := watchRowByID(id)
		if !ok {
			continue
		}
		args := row.args(r.cfg)
		if row.window {
			args = append(args, "--warmup="+r.cfg.Warmup.String(), "--duration="+r.cfg.Duration.String())
		}
		work := row.workOf(r.cfg)
		r.rep.Watch = append(r.rep.Watch,
			r.rounds(ctx, id, work, func(ctx context.Context, t *target) (watchload.Result, error) {
				return r.watchQuietly(ctx, t, work, args, row.pprof)
			}))
	}
	r.curves(ctx)
}

// rounds measures a load of several values in interleaved rounds.
func (r *runner) rounds(ctx context.Context, id, work string,
	once func(context.Context, *target) (watchload.Result, error),
) watchResult {
	res := watchResult{ID: id, Work: work, Samples: map[string][]watchload.Result{}}
	failed := map[string]bool{}
	for round := range r.cfg.Rounds {
		for _, t := range r.realTargets() {
			if failed[t.name] {
				continue
			}
			s, err := once(ctx, t)
			if err != nil {
				r.fail(ctx, fmt.Sprintf("%s on %s, round %d", work, t.name, round+1), err)
				failed[t.name] = true
				delete(res.Samples, t.name)
				continue
			}
			res.Samples[t.name] = append(res.Samples[t.name], s)
		}
	}
	return res
}

// curves measures the points of the curves, one server after the other at each.
func (r *runner) curves(ctx context.Context) {
	for _, n := range r.cfg.WatchCurve {
		p := curvePoint{Watchers: n, Samples: map[string]watchload.Result{}}
		work := fmt.Sprintf("curve, %d watchers", n)
		args := []string{
			"watch-fan", fixedRate, flag("streams", min(n, watchConns)), flag("watchers", n),
			"--warmup=" + r.cfg.Warmup.String(), "--duration=" + r.cfg.Duration.String(),
		}
		for _, t := range r.realTargets() {
			s, err := r.watchQuietly(ctx, t, work, args, false)
			if err != nil {
				r.fail(ctx, work+" on "+t.name, err)
				continue
			}
			p.Samples[t.name] = s
		}
		r.rep.Curve = append(r.rep.Curve, p)
	}
}

// watchQuietly measures a watch load. It repeats it while other programs used the machine, as measureQuietly does.
func (r *runner) watchQuietly(ctx context.Context, t *target, work string, args []string,
	pprof bool,
) (watchload.Result, error) {
	return r.quietly(ctx, t, work, func() (watchload.Result, error) { return r.watchOnce(ctx, t, args, pprof) })
}

// quietly measures a load of several values. It repeats it while other programs used the machine.
func (r *runner) quietly(ctx context.Context, t *target, work string,
	once func() (watchload.Result, error),
) (best watchload.Result, err error) {
	for try := range r.cfg.Retries + 1 {
		s, err := once()
		if err != nil {
			return watchload.Result{}, err
		}
		level := slog.LevelInfo
		if s.Others > r.cfg.NoiseMax {
			level = slog.LevelWarn
		}
		r.log.Log(ctx, level, work, "server", t.name, "values", s.Values, "other_cores", fmt.Sprintf("%.2f", s.Others))
		if try == 0 || s.Others < best.Others {
			best = s
		}
		if best.Others <= r.cfg.NoiseMax {
			break
		}
	}
	return best, nil
}

// watchOnce runs a watch load once on a fresh server.
func (r *runner) watchOnce(ctx context.Context, t *target, args []string,
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
		args = append(args[:len(args):len(args)], "--pprof")
	}
	s, err := t.start(ctx, o)
	if err != nil {
		return res, err
	}
	defer s.kill()
	out, err := r.runHwbench(ctx, s, args...)
	if err != nil {
		return res, err
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return res, fmt.Errorf("hwbench %s: %w", args[0], err)
	}
	return res, s.stop()
}

// series takes one value out of each sample of a server.
func (w *watchResult) series(server, value string) (vs []float64) {
	for _, s := range w.Samples[server] {
		if v, ok := s.Values[value]; ok {
			vs = append(vs, v)
		}
	}
	return vs
}

func (r *report) writeWatch(b *strings.Builder) {
	r.writeMeasures(b, "Watches", r.Watch, func(id string) []measure {
		row, _ := watchRowByID(id) // if there is none, the zero row shows nothing
		return row.measures
	})
}

// writeMeasures writes a table of loads that have several values each.
func (r *report) writeMeasures(b *strings.Builder, title string, results []watchResult,
	measures func(id string) []measure,
) {
	if len(results) == 0 {
		return
	}
	b.WriteString("\n## " + title + "\n\nMedians over the rounds; ratios are Headwater ÷ etcd, with the smallest " +
		"and largest ratio of a round. CPU is the server process alone. " +
		"Noise is the CPU that neither server nor clients used, in cores: largest round.\n\n")
	before := r.has(nameBefore)
	if before {
		b.WriteString("| work | measured | etcd | Headwater | before | × etcd | × before | goal reached | noise |\n" +
			"|---|---|---|---|---|---|---|---|---|\n")
	} else {
		b.WriteString("| work | measured | etcd | Headwater | × etcd | goal reached | noise |\n" +
			"|---|---|---|---|---|---|---|\n")
	}
	for i := range results {
		w := &results[i]
		for k, m := range measures(w.ID) {
			cells := []string{"", m.title}
			if k == 0 {
				cells[0] = w.Work
			}
			cells = append(cells, cell(w.series(nameEtcd, m.value), m.format),
				cell(w.series(nameHeadwater, m.value), m.format))
			verdict := w.judge(m)
			if before {
				was := none
				if q, ok := ratioOf(w.series(nameHeadwater, m.value), w.series(nameBefore, m.value)); ok {
					was = q.String()
				}
				cells = append(cells, cell(w.series(nameBefore, m.value), m.format), verdict[0], was, verdict[1])
			} else {
				cells = append(cells, verdict...)
			}
			noise := ""
			if k == 0 {
				noise = strconv.FormatFloat(w.noise(), 'f', 2, 64)
			}
			writeCells(b, append(cells, noise))
		}
	}
}

// judge returns the cells of the ratio and of the goal.
func (w *watchResult) judge(m measure) []string {
	cells := []string{none, ""}
	ratio, compared := ratioOf(w.series(nameHeadwater, m.value), w.series(nameEtcd, m.value))
	if compared && m.own.bound == 0 {
		cells[0] = ratio.String()
	}
	own := w.series(nameHeadwater, m.value)
	switch {
	case m.goal.bound != 0 && compared:
		cells[1] = m.goal.verdict("× ", ratio.median, asRatio)
	case m.own.bound != 0 && len(own) > 0:
		cells[1] = m.own.verdict("", Median(own), m.format)
	case m.goal.bound != 0 || m.own.bound != 0:
		cells[1] = "not measured"
	}
	return cells
}

func (w *watchResult) noise() (most float64) {
	for _, samples := range w.Samples {
		for _, s := range samples {
			most = max(most, s.Others)
		}
	}
	return most
}

func (r *report) writeCurve(b *strings.Builder) {
	if len(r.Curve) == 0 {
		return
	}
	b.WriteString("\n## Watchers of one prefix, 100 writes/s\n\nEach cell: etcd, Headwater.\n\n" +
		"| watchers | events delivered/s | server CPU µs per event | server cores | peak RSS MiB | p50 ms | p99 ms " +
		"|\n|---|---|---|---|---|---|---|\n")
	for _, p := range r.Curve {
		pair := func(value string, format func(float64) string) string {
			both := make([]string, 0, 2)
			for _, name := range []string{nameEtcd, nameHeadwater} {
				v, ok := p.Samples[name].Values[value]
				if !ok {
					both = append(both, none)
					continue
				}
				both = append(both, format(v))
			}
			return strings.Join(both, ", ")
		}
		bare := func(scale float64) func(float64) string {
			return func(v float64) string { return fmt.Sprintf("%.2f", v*scale) }
		}
		writeCells(b, []string{
			Thousands(float64(p.Watchers)), pair(watchload.EventsPerSecond, Thousands),
			pair(watchload.CPUPerEvent, bare(1e6)),
			pair(watchload.CPUCores, bare(1)), pair(watchload.RSSMax, mib), pair(watchload.EventP50, bare(1e3)),
			pair(watchload.EventP99, bare(1e3)),
		})
	}
}
