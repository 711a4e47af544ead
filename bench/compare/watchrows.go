package compare

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/headwaterdb/headwater/bench/watchload"
)

// measure is one value of a watch load that the table shows.
type measure struct {
	value  string // name in watchload.Result.Values
	title  string
	format func(float64) string
	goal   limit // of Headwater ÷ etcd
	own    limit // of Headwater's value itself
}

// limit is a bound on a number; the zero value is none.
type limit struct {
	bound float64
	least bool // the number must be at least bound; else at most
}

func atLeast(v float64) limit { return limit{bound: v, least: true} }
func atMost(v float64) limit  { return limit{bound: v} }

// verdict says whether v keeps to l; empty without a limit.
func (l limit) verdict(what string, v float64, format func(float64) string) string {
	if l.bound == 0 {
		return ""
	}
	sign, ok := "≤", v <= l.bound
	if l.least {
		sign, ok = "≥", v >= l.bound
	}
	return fmt.Sprintf("%s%s %s: %s", what, sign, format(l.bound), yes(ok))
}

// watchRow is one watch load of the comparison.
type watchRow struct {
	id       string
	work     string
	args     func(*Config) []string // of hwbench
	window   bool                   // it takes --warmup and --duration
	pprof    bool
	measures []measure
}

func micros(v float64) string        { return fmt.Sprintf("%.2f µs", v*1e6) }
func millis(v float64) string        { return fmt.Sprintf("%.2f ms", v*1e3) }
func seconds(v float64) string       { return fmt.Sprintf("%.2f s", v) }
func perSec(v float64) string        { return Thousands(v) + unitPerSecond }
func mebibytes(v float64) string     { return mib(v) + " MiB" }
func bytesEach(v float64) string     { return Thousands(v) + " B" }
func asRatio(v float64) string       { return fmt.Sprintf("%.2f", v) }
func flag(name string, v int) string { return "--" + name + "=" + strconv.Itoa(v) }

// curveRate is the puts per second of watch-fan and of the curves.
const curveRate = 100

// fixedRate is curveRate as a flag.
var fixedRate = flag("rate", curveRate)

// watchRows are the watch loads, in the order of the table in docs/benchmarks.md.
func watchRows() []watchRow {
	fixed := func(args ...string) func(*Config) []string { return func(*Config) []string { return args } }
	return []watchRow{
		{
			id: "watch-fan", work: "1,000 watches of one prefix on 10 connections, 100 writes/s", window: true,
			args: fixed("watch-fan", fixedRate), measures: []measure{
				{value: watchload.EventsPerSecond, title: "events delivered", format: perSec},
				{value: watchload.CPUPerEvent, title: "server CPU per event", format: micros, goal: atMost(0.35)},
				{value: watchload.EventP50, title: "p50 write sent → event", format: millis},
				{value: watchload.EventP99, title: "p99 write sent → event", format: millis, goal: atMost(0.5)},
			},
		},
		{
			id: "watch-max", work: "the same, 20 clients write as fast as they are answered", window: true,
			args: fixed("watch-fan", "--clients=20"), measures: []measure{
				{value: watchload.EventsPerSecond, title: "events delivered", format: perSec, goal: atLeast(3)},
				{value: watchload.WritesPerSecond, title: "writes answered", format: perSec},
				{value: watchload.CPUPerEvent, title: "server CPU per event", format: micros},
				{value: watchload.EventP50, title: "p50 write sent → event", format: millis},
				{value: watchload.EventP99, title: "p99 write sent → event", format: millis},
				{value: watchload.RSSGrowth, title: "growth of RSS to its peak", format: mebibytes},
			},
		},
		{
			id: "watch-latency", work: "1 watcher, 500 writes/s", window: true,
			args: fixed("watch-fan", "--conns=1", "--streams=1", "--watchers=1", "--rate=500"), measures: []measure{
				{value: watchload.EventP50, title: "p50 write sent → event", format: millis, goal: atMost(1)},
				{value: watchload.EventP99, title: "p99 write sent → event", format: millis, goal: atMost(1)},
				{value: watchload.CPUPerEvent, title: "server CPU per write and event", format: micros},
			},
		},
		{
			id: "watch-memory", work: "memory of watchers, each of its own prefix", pprof: true,
			args: func(c *Config) []string {
				return []string{"watch-memory", flag("watchers", c.WatchMany), flag("streams", c.WatchStreams)}
			}, measures: []measure{
				{
					value: watchload.RSSPerWatcher, title: "RSS per watcher, streams included",
					format: bytesEach, goal: atMost(0.5),
				},
				{
					value: watchload.LivePerWatcher, title: "heap and stacks per watcher after a collection",
					format: bytesEach,
				},
				{value: watchload.CreateAll, title: "time to create all", format: seconds},
			},
		},
		{id: "watch-reconnect", work: "watchers that come back at once", args: func(c *Config) []string {
			return []string{
				"watch-reconnect", flag("watchers", c.WatchReconnect), flag("streams", max(1, c.WatchReconnect/100)),
				flag("history", c.WatchHistory),
			}
		}, measures: []measure{
			{value: watchload.LiveAll, title: "all live after", format: seconds, goal: atMost(0.3)},
			{value: watchload.LiveMedian, title: "half of them live after", format: seconds},
		}},
		{
			id: "watch-stalled", work: "puts beside stalled watchers, 50 clients", window: true,
			args: func(c *Config) []string {
				return []string{"watch-stalled", flag("beside", c.WatchStalled), flag("beside-streams", c.WatchStalled)}
			}, measures: []measure{
				{value: watchload.WithoutBeside, title: "puts without them", format: perSec},
				{value: watchload.WithBeside, title: "puts with them", format: perSec},
				{value: watchload.BesideRatio, title: "with ÷ without", format: asRatio, own: atLeast(0.95)},
				{value: watchload.CPURatio, title: "server CPU per put, with ÷ without", format: asRatio},
				{value: watchload.RSSGrowth, title: "growth of RSS to its peak", format: mebibytes},
			},
		},
		{
			id: "watch-idle", work: "10 watchers, 500 writes/s, beside watchers of other prefixes", window: true,
			args: func(c *Config) []string {
				return []string{"watch-idle", flag("beside", c.WatchMany), flag("beside-streams", c.WatchStreams)}
			}, measures: []measure{
				{value: watchload.WithoutBeside, title: "server CPU per event without them", format: micros},
				{value: watchload.WithBeside, title: "server CPU per event with them", format: micros},
				{value: watchload.BesideRatio, title: "with ÷ without", format: asRatio, own: atMost(1.1)},
				{value: watchload.EventP99, title: "p99 write sent → event with them", format: millis},
			},
		},
		{
			id: "watch-isolation", work: "100 watchers, 500 writes/s, beside everything that may disturb them",
			window: true, args: func(c *Config) []string {
				return []string{
					"watch-isolation", flag("beside", c.WatchStorm), flag("beside-streams", stormStreams(c)),
					flag("history", c.WatchBehind),
				}
			}, measures: []measure{
				{value: watchload.WithoutBeside, title: "p99 write sent → event without", format: millis},
				{value: watchload.WithBeside, title: "p99 write sent → event with", format: millis},
				{value: watchload.BesideRatio, title: "with ÷ without", format: asRatio},
				{value: watchload.WritesRatio, title: "writes/s, with ÷ without", format: asRatio, own: atLeast(0.95)},
				{value: watchload.BehindRead, title: "events read by the watcher that was behind", format: Thousands},
				{value: watchload.Lists, title: "lists answered beside", format: Thousands},
				{value: watchload.CreateAll, title: "all watches created after", format: seconds},
				{value: watchload.RSSGrowth, title: "growth of RSS to its peak", format: mebibytes},
			},
		},
	}
}

// stormStreams is the streams of the watches that are created at once.
func stormStreams(c *Config) int { return max(1, c.WatchStorm/100) }

func watchRowIDs() (ids []string) {
	for _, r := range watchRows() {
		ids = append(ids, r.id)
	}
	return ids
}

func watchRowByID(id string) (watchRow, bool) {
	all := watchRows()
	i := slices.IndexFunc(all, func(r watchRow) bool { return r.id == id })
	if i < 0 {
		return watchRow{}, false
	}
	return all[i], true
}

// workOf names a row with the sizes it was run at.
func (r *watchRow) workOf(c *Config) string {
	n := func(v int) string { return Thousands(float64(v)) }
	switch r.id {
	case "watch-memory":
		return fmt.Sprintf("%s watchers on %s streams, each of its own prefix", n(c.WatchMany), n(c.WatchStreams))
	case "watch-reconnect":
		return fmt.Sprintf("%s watchers come back at once, %s revisions behind", n(c.WatchReconnect), n(c.WatchHistory))
	case "watch-stalled":
		return fmt.Sprintf("50 clients put; %s watchers that never read", n(c.WatchStalled))
	case "watch-isolation":
		return fmt.Sprintf("100 watchers, 500 writes/s; 1 stream never read, 1 watcher %s revisions behind, %s "+
			"watches created at once, lists of 20,000 keys", n(c.WatchBehind), n(c.WatchStorm))
	case "watch-idle":
		return fmt.Sprintf("10 watchers, 500 writes/s; %s watchers of other prefixes", n(c.WatchMany))
	}
	return r.work
}
