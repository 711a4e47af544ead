package compare

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Names of the servers.
const (
	nameEtcd      = "etcd"
	nameHeadwater = "headwater"
	nameNull      = "null"
	nameBefore    = "before" // another Headwater binary, beside the one that is measured
)

// Config says what to run. FlagSet documents the fields.
type Config struct {
	Root    string
	Dir     string
	Out     string
	JSON    string
	Docs    string
	Targets []string
	Rows    []string
	Watch   bool
	Values  bool
	Quick   bool
	Long    bool

	Rounds   int
	Duration time.Duration
	Warmup   time.Duration
	NoiseMax float64
	Retries  int

	EtcdBinary      string
	HeadwaterBinary string
	HeadwaterSource string
	HeadwaterArgs   []string
	BeforeBinary    string

	MemoryKeys    int64
	MemoryValSize int
	Starts        int

	BigBytes   int64
	BigValSize int
	BigMemory  int64
	Cgroup     string

	WatchMany      int
	WatchStreams   int
	WatchReconnect int
	WatchHistory   int
	WatchStalled   int
	WatchBehind    int
	WatchStorm     int
	WatchCurve     []int

	Space     bool
	SpaceIdle time.Duration

	Profile       []string
	ProfileTarget string
	ProfileDir    string
}

// FlagSet returns the flags that set c.
func (c *Config) FlagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("compare", pflag.ContinueOnError)
	f.SortFlags = false
	f.BoolVar(&c.Quick, "quick", false, "about two minutes: 2 rounds of 2 s, 100,000 keys for memory, no big-data run")
	f.BoolVar(&c.Long, "long", false, "an hour or so: 7 rounds of 10 s, 20 GB of big data")
	f.BoolVar(&c.Watch, "watch", false, "the watch loads and their curves in place of everything else, 2 rounds of "+
		"4 s, nothing repeated: about nine minutes (with --quick: under one, at a hundredth of the size)")
	f.BoolVar(&c.Values, "values", false, "the loads of larger values in place of everything else: about fifteen "+
		"minutes (with --quick: about one, with a twentieth of the keys)")
	f.StringVar(&c.Out, "out", "", "write the Markdown report here too (it always goes to the standard output)")
	f.StringVar(&c.JSON, "json", "", "write all measurements here as JSON")
	f.StringVar(&c.Docs, "docs", "",
		"docs/benchmarks.md: replace the sections of what was measured, and draw the curves beside it")
	f.StringSliceVar(&c.Targets, "targets", []string{nameEtcd, nameHeadwater, nameNull}, "servers to run")
	f.StringSliceVar(&c.Rows, "rows", rowIDs(), "loads to run; none: --rows=; loads of larger values are "+
		strings.Join(valueRowIDs(), ", ")+"; watch loads are "+strings.Join(watchRowIDs(), ", "))
	f.IntVar(&c.Rounds, "rounds", 3, "rounds of each load")
	f.DurationVar(&c.Duration, "duration", 5*time.Second, "measured window of a load")
	f.DurationVar(&c.Warmup, "warmup", time.Second, "load before the window")
	f.Float64Var(&c.NoiseMax, "noise-max", 0.15,
		"cores used by neither server nor clients from which on a measurement is noisy")
	f.IntVar(&c.Retries, "retries", 1, "how often to repeat a noisy measurement; the quietest counts")
	f.StringVar(&c.Dir, "dir", os.TempDir(),
		"directory on the disk to test; data directories are made in it and removed")
	f.StringVar(&c.Root, "root", "",
		"root of the Headwater tree; default: the nearest go.work above the working directory")
	f.StringVar(&c.EtcdBinary, "etcd", "",
		"etcd binary; default: built from the module go.etcd.io/etcd/server/v3 that bench/go.mod names")
	f.StringVar(&c.HeadwaterBinary, "headwater", "", "headwater binary; default: built from --headwater-source")
	f.StringVar(&c.HeadwaterSource, "headwater-source", "services/standalone",
		"package to build headwater from, below --root")
	f.StringArrayVar(&c.HeadwaterArgs, "headwater-arg", nil, "one more argument for headwater; may be repeated")
	f.StringVar(&c.BeforeBinary, "before", "",
		"another headwater binary, of the previous release: it runs in the same rounds")
	f.BoolVar(&c.Space, "space", false, "what comes back of the space, step by step, in place of everything else: "+
		"about ten minutes for two servers (with --quick: under two, scaled down)")
	f.DurationVar(&c.SpaceIdle, "space-idle", 90*time.Second,
		"how long --space leaves a server alone after a compaction")
	f.Int64Var(&c.MemoryKeys, "memory-keys", 1_000_000, "keys of the memory and start-up measurement; 0: skip")
	f.IntVar(&c.MemoryValSize, "memory-val-size", 1024, "bytes in their values")
	f.IntVar(&c.Starts, "starts", 3, "timed starts with those keys")
	f.Int64Var(&c.BigBytes, "big-bytes", 2_000_000_000, "bytes of values of the big-data run; 0: skip")
	f.IntVar(&c.BigValSize, "big-val-size", 4096, "bytes in its values")
	f.Int64Var(&c.BigMemory, "big-memory", 1<<30,
		"memory limit of the server in the big-data run, in bytes; GOMEMLIMIT is set to 85 % of it")
	f.StringVar(&c.Cgroup, "cgroup", "", "writable cgroup directory (v2 or v1 memory) to make a child group in, so "+
		"that the kernel enforces --big-memory; without it the limit is GOMEMLIMIT and the report shows the peak")
	f.IntVar(&c.WatchMany, "watchers", 100_000, "watchers of watch-memory and watch-idle")
	f.IntVar(&c.WatchStreams, "watch-streams", 1000, "their streams")
	f.IntVar(&c.WatchReconnect, "watch-reconnect", 10_000, "watchers of watch-reconnect")
	f.IntVar(&c.WatchHistory, "watch-history", 50_000, "revisions they have missed")
	f.IntVar(&c.WatchStalled, "watch-stalled", 1000, "watchers of watch-stalled that do not read")
	f.IntVar(&c.WatchBehind, "watch-behind", 1_000_000,
		"revisions that the watcher of watch-isolation is behind; --watch: 250000")
	f.IntVar(&c.WatchStorm, "watch-storm", 10_000, "watches that watch-isolation creates at once")
	f.Func("watch-curve", "numbers of watchers at which to measure the curves, multiples of 10, or nothing; --watch: "+
		"10,100,300,1000,3000,10000", c.setCurve)
	f.StringSliceVar(&c.Profile, "cpuprofile", nil,
		"after the rounds, run these loads once more with a CPU profile and report the top functions")
	f.StringVar(&c.ProfileTarget, "cpuprofile-target", nameHeadwater, "server to profile: headwater, etcd or before")
	f.StringVar(&c.ProfileDir, "cpuprofile-dir", "", "keep the profiles here")
	return f
}

// setCurve reads --watch-curve.
func (c *Config) setCurve(list string) error {
	c.WatchCurve = nil
	if list == "" {
		return nil
	}
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		c.WatchCurve = append(c.WatchCurve, n)
	}
	return nil
}

// part are the flags of --watch, --values and --space, which measure a part only.
func (c *Config) part() map[string]string {
	flags := map[string]string{
		"memory-keys": "0", "big-bytes": "0", "targets": nameEtcd + "," + nameHeadwater, "retries": "0",
	}
	switch {
	case c.Watch:
		maps.Copy(flags, map[string]string{
			"rows":         strings.Join(watchRowIDs(), ","),
			"rounds":       "2",
			"duration":     "4s",
			"watch-curve":  "10,100,300,1000,3000,10000",
			"watch-behind": "250000",
		})
	case c.Values:
		flags["rows"] = strings.Join(valueRowIDs(), ",")
	case c.Space:
		flags["rows"] = ""
	default:
		return map[string]string{}
	}
	return flags
}

// preset applies --quick, --long, --watch, --values and --space to the flags that were not given.
func (c *Config) preset(f *pflag.FlagSet) error {
	if c.Watch && c.Values || c.Watch && c.Space || c.Values && c.Space {
		return fmt.Errorf("--watch, --values and --space exclude each other")
	}
	values := c.part()
	switch {
	case c.Quick && c.Long:
		return fmt.Errorf("--quick and --long exclude each other")
	case c.Quick && c.Space:
		values["space-idle"] = "10s"
	case c.Quick && c.Values:
		maps.Copy(values, map[string]string{"rounds": "1", "duration": "1s", "warmup": "200ms"})
	case c.Quick && c.Watch:
		maps.Copy(values, map[string]string{
			"rounds":          "1",
			"duration":        "500ms",
			"warmup":          "200ms",
			"watchers":        "1000",
			"watch-streams":   "10",
			"watch-reconnect": "100",
			"watch-history":   "500",
			"watch-stalled":   "10",
			"watch-curve":     "10,100",
			"watch-behind":    "1000",
			"watch-storm":     "100",
		})
	case c.Quick:
		maps.Copy(values, map[string]string{
			"rounds": "2", "duration": "2s", "warmup": "500ms", "memory-keys": "100000", "starts": "1",
			"big-bytes": "0",
		})
	case c.Long:
		maps.Copy(values, map[string]string{"rounds": "7", "duration": "10s", "warmup": "2s"})
		if !c.Watch && !c.Values && !c.Space {
			values["big-bytes"] = "20000000000"
		}
	}
	for name, v := range values {
		if f.Changed(name) {
			continue
		}
		if err := f.Set(name, v); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validate() error {
	for _, t := range c.Targets {
		if t != nameEtcd && t != nameHeadwater && t != nameNull {
			return fmt.Errorf("no such server: %q", t)
		}
	}
	for _, id := range c.Rows {
		_, kv := rowByID(id)
		_, value := valueRowByID(id)
		if _, watch := watchRowByID(id); !kv && !value && !watch {
			return fmt.Errorf("no such load: %q (there are %s)", id,
				strings.Join(slices.Concat(rowIDs(), valueRowIDs(), watchRowIDs()), ", "))
		}
	}
	for _, id := range c.Profile {
		_, kv := rowByID(id)
		if _, value := valueRowByID(id); !kv && !value {
			return fmt.Errorf("no such load to profile: %q (there are %s)", id,
				strings.Join(append(rowIDs(), valueRowIDs()...), ", "))
		}
	}
	for _, n := range c.WatchCurve {
		if n < 1 || n%watchConns != 0 {
			return fmt.Errorf("watch-curve: %d is not a multiple of %d", n, watchConns)
		}
	}
	switch {
	case c.Rounds < 1 || c.Duration <= 0 || c.Warmup < 0 || c.Starts < 1 || c.Retries < 0:
		return fmt.Errorf("rounds, starts and duration must be positive, warmup and retries not negative")
	case c.MemoryKeys < 0 || c.BigBytes < 0 || c.MemoryValSize < 1 || c.BigValSize < 1 || c.BigMemory < 1:
		return fmt.Errorf("sizes must not be negative")
	case c.WatchMany < 1 || c.WatchStreams < 1 || c.WatchMany%c.WatchStreams != 0:
		return fmt.Errorf("watchers must be a positive multiple of watch-streams")
	case c.WatchReconnect < 1 || c.WatchReconnect%max(1, c.WatchReconnect/100) != 0 ||
		c.WatchHistory < c.WatchReconnect:
		return fmt.Errorf("watch-reconnect must be a multiple of its streams, one for each 100, and watch-history at " +
			"least that")
	case c.WatchStalled < 1 || c.WatchBehind < 1:
		return fmt.Errorf("watch-stalled and watch-behind must be positive")
	case c.WatchStorm < 1 || c.WatchStorm%stormStreams(c) != 0:
		return fmt.Errorf("watch-storm must be a multiple of its streams, one for each 100")
	case c.SpaceIdle < 0:
		return fmt.Errorf("space-idle must not be negative")
	case c.ProfileTarget != nameHeadwater && c.ProfileTarget != nameEtcd && c.ProfileTarget != nameBefore:
		return fmt.Errorf("cannot profile %q", c.ProfileTarget)
	}
	return nil
}
