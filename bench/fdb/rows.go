package fdb

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/headwaterdb/headwater/bench/compare"
	"github.com/headwaterdb/headwater/bench/watchload"
	"github.com/headwaterdb/headwater/tests/stack"
)

// The number that a goal compares with: another etcd server on FoundationDB (f8n 0.5), on one FoundationDB process,
// measured on the machine of docs/benchmarks.md with the same load.
const (
	f8nList = 17_600 // listed keys per second
)

// Shape of the row with many watchers.
const watchStreams = 50

// Names of values that samples have beside rate, p50 and p99.
const (
	valueConflicts = "conflicts"
	valuePutP50    = "put p50"
	valueWritten   = "written" // puts per second
	valueFirst     = "first event"
	valueWithout   = "without" // puts per second without watchers
	valueCPU       = "CPU per put, with ÷ without"
	valueGroup     = "writes per group commit"
)

// sample is what one round of a row measured. Times are seconds.
type sample struct {
	rate, p50, p99 float64
	cpu            cores
	values         map[string]float64
}

func (s sample) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.0f/s p50 %.2f ms p99 %.2f ms cores", s.rate, s.p50*1e3, s.p99*1e3)
	for _, kind := range []string{kindKV, stack.KindFDB, kindHub, kindLoad, kindOther} {
		fmt.Fprintf(&b, " %s %.2f", kind, s.cpu[kind])
	}
	if len(s.values) > 0 {
		fmt.Fprintf(&b, " %v", s.values)
	}
	return b.String()
}

// row is one line of the report.
type row struct {
	id, work string
	run      func(context.Context, *bench) (sample, error)
	verdict  func(all map[string][]sample) verdict
}

// verdict is what a row shows and says of its goals.
type verdict struct {
	result string
	goals  []goal
}

// goal is a bound on a number.
type goal struct {
	text string
	met  bool
}

func atLeast(what string, bound, v float64) goal {
	return goal{what + "≥ " + compare.Thousands(bound), v >= bound}
}

func atMost(what string, bound, v float64) goal {
	return goal{what + "≤ " + strconv.FormatFloat(bound, 'f', -1, 64), v <= bound}
}

// median is the median of one number over the samples of a row; NaN without samples.
func median(samples []sample, f func(sample) float64) float64 {
	var vs []float64
	for _, s := range samples {
		vs = append(vs, f(s))
	}
	return compare.Median(vs)
}

func rateOf(s sample) float64 { return s.rate }
func p50Of(s sample) float64  { return s.p50 }
func p99Of(s sample) float64  { return s.p99 }

func value(name string) func(sample) float64 { return func(s sample) float64 { return s.values[name] } }

// perSecond is the verdict of a row whose number is its rate; least is its goal, if not 0.
func perSecond(id, unit string, least float64) func(map[string][]sample) verdict {
	return func(all map[string][]sample) verdict {
		rate := median(all[id], rateOf)
		v := verdict{result: compare.Thousands(rate) + unit}
		if group := median(all[id], value(valueGroup)); group > 0 {
			v.result += fmt.Sprintf(", %.1f per group commit", group)
		}
		if least > 0 {
			v.goals = []goal{atLeast("", least, rate)}
		}
		return v
	}
}

// ofGroups is the verdict of a row whose rate is compared with that of row raw-groups; least is the goal for the ratio.
// The speed of the machine differs by a third from day to day, and the raw row is measured in the same run.
func ofGroups(id string, least float64) func(map[string][]sample) verdict {
	rate := perSecond(id, "/s", 0)
	return func(all map[string][]sample) verdict {
		v := rate(all)
		if len(all["raw-groups"]) == 0 {
			return v
		}
		ratio := median(all[id], rateOf) / median(all["raw-groups"], rateOf)
		v.result += fmt.Sprintf(", %.2f × raw groups", ratio)
		v.goals = []goal{{fmt.Sprintf("× raw groups ≥ %.2f", least), ratio >= least}}
		return v
	}
}

func rows() []row {
	const perS, keysPerS = "/s", " keys/s"
	return append([]row{
		{
			id: "raw", work: "FoundationDB's own client: the transaction of a put, 1 client", run: raw(),
			verdict: func(all map[string][]sample) verdict {
				return verdict{result: fmt.Sprintf("%.2f ms", median(all["raw"], p50Of)*1e3)}
			},
		},
		{
			id: "put1", work: "put, 1 client", run: many(false, "put", "--sequential-keys"),
			verdict: func(all map[string][]sample) verdict {
				p50 := median(all["put1"], p50Of)
				if len(all["raw"]) == 0 {
					return verdict{result: fmt.Sprintf("%.2f ms", p50*1e3)}
				}
				ratio := p50 / median(all["raw"], p50Of)
				return verdict{
					fmt.Sprintf("%.2f ms, %.2f × raw", p50*1e3, ratio),
					[]goal{atMost("× raw ", 1.3, ratio)},
				}
			},
		},
		// This row comes after the row of one client, because FoundationDB works for seconds on what this row
		// leaves behind.
		{
			id:      "raw-groups",
			work:    "FoundationDB's own client: the transaction of a group of 32 puts, on 4 lanes",
			run:     raw("--lanes=4", "--group=32"),
			verdict: perSecond("raw-groups", perS, 0),
		},
		{
			id:      "put",
			work:    "put, fresh keys, 20 × 200",
			run:     many(false, "put", "--sequential-keys", conns, clients),
			verdict: perSecond("put", perS, 0),
		},
		{
			id: "create", work: "create, 20 × 200",
			run: many(false, "create", conns, clients), verdict: ofGroups("create", 0.50),
		},
		{
			id: "update", work: "update, 20 × 200",
			run: many(true, "update", conns, clients), verdict: ofGroups("update", 0.43),
		},
		{
			id: "range", work: "range, one key, linearizable, 20 × 200",
			run: many(true, "range", conns, clients), verdict: ofGroups("range", 0.95),
		},
		{
			id:      "list",
			work:    "list 10,000 keys by 1,000 with exact counts, 4 clients",
			run:     many(true, "list", "--conns=4", "--clients=4"),
			verdict: perSecond("list", keysPerS, 10*f8nList),
		},
		{
			id: "conflicts", work: "put, fresh keys, through 2 kv pods, 20 × 200", run: conflicts,
			verdict: func(all map[string][]sample) verdict {
				n := 0.0
				for _, s := range all["conflicts"] {
					n += s.values[valueConflicts]
				}
				return verdict{fmt.Sprintf("%s/s, %.0f conflicts in all",
					compare.Thousands(median(all["conflicts"], rateOf)), n), []goal{{"no conflicts", n == 0}}}
			},
		},
		{
			id: "event", work: "1 watcher at a hub, 500 puts/s at a kv pod: put sent → event", run: event,
			verdict: func(all map[string][]sample) verdict {
				p50, p99, put := median(all["event"], p50Of)*1e3, median(all["event"], p99Of)*1e3,
					median(all["event"], value(valuePutP50))*1e3
				return verdict{
					fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; p50 less that of the put %.2f ms", p50, p99, p50-put),
					[]goal{atMost("p50 after the put ms ", 5, p50-put), atMost("p99 with the put ms ", 25, p99)},
				}
			},
		},
		{
			id:   "catch-up",
			work: "tailer and hubs stand still while puts are written, then go on: events/s at 1 watcher",
			run:  catchUp, verdict: func(all map[string][]sample) verdict {
				events, puts := median(all["catch-up"], rateOf), median(all["catch-up"], value(valueWritten))
				return verdict{
					fmt.Sprintf("%s/s, %.2f × the puts/s before (first event after %.2f s)", compare.Thousands(events),
						events/puts, median(all["catch-up"], value(valueFirst))),
					[]goal{{"≥ 2 × puts/s", events >= 2*puts}},
				}
			},
		},
		{
			id: "watchers", work: "put, 20 × 200, beside watchers on hubs, each on one of the keys", run: watchers,
			verdict: func(all map[string][]sample) verdict {
				with, without := median(all["watchers"], rateOf), median(all["watchers"], value(valueWithout))
				cpu := median(all["watchers"], value(valueCPU))
				return verdict{
					fmt.Sprintf("%s/s with, %s/s without; CPU of kv and fdbserver per put, with ÷ without: %.2f",
						compare.Thousands(with), compare.Thousands(without), cpu),
					[]goal{atMost("CPU per put × ", 1.03, cpu)},
				}
			},
		},
		{
			id: rowOneKeyspace, work: "put, fresh keys, the rate of the next row in one keyspace",
			run: keyspaceLoad(true), verdict: oneKeyspace,
		},
		{
			id: rowKeyspaces, work: "put, fresh keys, at a fixed rate in each of many keyspaces",
			run: keyspaceLoad(false), verdict: manyKeyspaces,
		},
	}, remoteRows()...)
}

func rowIDs() (ids []string) {
	for _, r := range rows() {
		ids = append(ids, r.id)
	}
	return ids
}

// ordinary are the rows that are run if none are named.
func ordinary() []string {
	return slices.DeleteFunc(rowIDs(), func(id string) bool { return slices.Contains(keyspaceRows, id) })
}

// Counters of kv pods.
const (
	commitsMetric   = "headwater_group_commits_total"
	conflictsMetric = "headwater_group_conflicts_total"
	outdatedMetric  = "headwater_group_outdated_total" // a conflict too, if all requests succeed
)

const (
	conns   = "--conns=20"
	clients = "--clients=200"
	// sparse turns off hwbench's comparison of revisions with writes: FoundationDB's have gaps.
	sparse = "--verify=false"
)

func loadSample(res result, used cores) sample {
	l := res.Latencies[0]
	return sample{rate: res.PerSec, p50: l.P50.Seconds(), p99: l.P99.Seconds(), cpu: used}
}

func raw(args ...string) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (sample, error) {
		res, used, err := b.load(ctx, true,
			append([]string{"raw-put", "--cluster-file=" + b.cluster, "--prefix=" + b.prefix()}, args...)...)
		if err != nil {
			return sample{}, err
		}
		return loadSample(res, used), nil
	}
}

// many is a load of package load against kv-1. If fill is set, it writes the keys before the load.
func many(fill bool, args ...string) func(context.Context, *bench) (sample, error) {
	return func(ctx context.Context, b *bench) (sample, error) {
		at := []string{"--endpoints=" + b.kv[0].Address, "--prefix=" + b.prefix(), sparse}
		if fill {
			if _, _, err := b.load(ctx, false,
				append([]string{"fill", "--conns=4", "--clients=20"}, at...)...); err != nil {
				return sample{}, err
			}
		}
		before, err := metric(ctx, commitsMetric, b.kv[0])
		if err != nil {
			return sample{}, err
		}
		res, used, err := b.load(ctx, true, append(args[:len(args):len(args)], at...)...)
		if err != nil {
			return sample{}, err
		}
		after, err := metric(ctx, commitsMetric, b.kv[0])
		s := loadSample(res, used)
		if res.Writes > 0 {
			s.values = map[string]float64{valueGroup: float64(res.Writes) / max(1, after-before)}
		}
		return s, err
	}
}

// conflicts puts through two pods. The clients take the keys in turn, so that no two clients write the same key.
func conflicts(ctx context.Context, b *bench) (s sample, err error) {
	if err := b.kv[1].Start(ctx); err != nil {
		return s, err
	}
	defer func() {
		if serr := b.kv[1].Stop(); err == nil {
			err = serr
		}
	}()
	before, err := repeated(ctx, b.kv...)
	if err != nil {
		return s, err
	}
	res, used, err := b.load(ctx, true, "put", "--sequential-keys", conns, clients, sparse, "--prefix="+b.prefix(),
		"--endpoints="+b.kv[0].Address+","+b.kv[1].Address)
	if err != nil {
		return s, err
	}
	after, err := repeated(ctx, b.kv...)
	s = loadSample(res, used)
	s.values = map[string]float64{valueConflicts: after - before}
	return s, err
}

// repeated returns how many groups kv pods have evaluated again.
func repeated(ctx context.Context, kv ...*stack.Process) (float64, error) {
	conflicts, err := metric(ctx, conflictsMetric, kv...)
	if err != nil {
		return 0, err
	}
	outdated, err := metric(ctx, outdatedMetric, kv...)
	return conflicts + outdated, err
}

// watch is a load of package watchload: watchers at the hubs' addresses, writers at kv-1.
func (b *bench) watch(ctx context.Context, window bool, command, hubs string, args ...string) (result, cores, error) {
	return b.load(ctx, window, append([]string{
		command, "--sparse", "--endpoints=" + hubs, "--write-endpoints=" + b.kv[0].Address,
		"--server-pid=" + strconv.Itoa(b.hub[0].PID()),
	}, args...)...)
}

func event(ctx context.Context, b *bench) (sample, error) {
	res, used, err := b.watch(ctx, true, "watch-fan", b.hub[0].Address, "--conns=1", "--streams=1", "--watchers=1",
		"--rate=500")
	if err != nil {
		return sample{}, err
	}
	v := res.Values
	return sample{
		rate: v[watchload.WritesPerSecond], p50: v[watchload.EventP50], p99: v[watchload.EventP99], cpu: used,
		values: map[string]float64{valuePutP50: v[watchload.PutP50]},
	}, nil
}

func catchUp(ctx context.Context, b *bench) (sample, error) {
	res, _, err := b.watch(ctx, false, "watch-catch-up", b.hub[0].Address, "--write-conns=20", clients,
		"--history="+strconv.Itoa(b.cfg.History), fmt.Sprintf("--pause-pids=%d,%d", b.hub[0].PID(), b.hub[1].PID()))
	if err != nil {
		return sample{}, err
	}
	v := res.Values
	return sample{
		rate:   v[watchload.EventsPerSecond],
		values: map[string]float64{valueWritten: v[watchload.HistoryRate], valueFirst: v[watchload.FirstEvent]},
	}, nil
}

// watchers puts without watchers, with watchers, and without them again.
func watchers(ctx context.Context, b *bench) (sample, error) {
	n := strconv.Itoa(b.cfg.Watchers)
	puts := func(watchers string) (s sample, perPut float64, err error) {
		res, used, err := b.watch(ctx, true, "watch-fan", b.hub[0].Address+","+b.hub[1].Address, "--conns=10",
			"--streams="+strconv.Itoa(watchStreams),
			"--watchers="+watchers, "--keys="+n, "--own-key", "--write-conns=20", clients)
		if err != nil {
			return s, 0, err
		}
		v := res.Values
		s = sample{rate: v[watchload.WritesPerSecond], p50: v[watchload.PutP50], p99: v[watchload.PutP99], cpu: used}
		return s, (used[kindKV] + used[stack.KindFDB]) / s.rate, nil
	}
	before, cpuBefore, err := puts("0")
	if err != nil {
		return sample{}, err
	}
	s, cpu, err := puts(n)
	if err != nil {
		return sample{}, err
	}
	after, cpuAfter, err := puts("0")
	if err != nil {
		return sample{}, err
	}
	s.values = map[string]float64{
		valueWithout: (before.rate + after.rate) / 2, valueCPU: 2 * cpu / (cpuBefore + cpuAfter),
	}
	return s, nil
}
