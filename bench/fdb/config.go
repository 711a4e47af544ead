package fdb

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/headwaterdb/headwater/bench/compare"
	"github.com/headwaterdb/headwater/tests/stack"
)

// Config says what to run. FlagSet documents the fields.
type Config struct {
	Dir, Docs, Home string
	Keep, Quick     bool
	Rows            []string
	Rounds          int
	Duration        time.Duration
	Warmup          time.Duration
	NoiseMax        float64
	Retries         int
	Watchers        int
	History         int
	Keyspaces       int
	KeyspaceRate    int
	CountKeys       int
	KVArgs          []string
	ProfileDir      string

	root string
	args []string
}

// FlagSet returns the flags that set c.
func (c *Config) FlagSet() *pflag.FlagSet {
	f := pflag.NewFlagSet("bench-fdb", pflag.ContinueOnError)
	f.SortFlags = false
	f.BoolVar(&c.Quick, "quick", false, "1 round of 2 s: to see whether everything works")
	f.StringSliceVar(&c.Rows, "rows", ordinary(), "rows to run; those of many keyspaces, "+
		strings.Join(keyspaceRows, " and ")+", are run only if they are named")
	f.IntVar(&c.Keyspaces, "keyspaces", 1000, "keyspaces of the row "+rowKeyspaces)
	f.IntVar(&c.KeyspaceRate, "keyspace-rate", 4, "writes per second in each of them")
	f.IntVar(&c.Rounds, "rounds", 3, "rounds of each row")
	f.DurationVar(&c.Duration, "duration", 5*time.Second, "measured window of a load")
	f.DurationVar(&c.Warmup, "warmup", time.Second, "load before the window")
	f.Float64Var(&c.NoiseMax, "noise-max", 0.15, "cores used by other programs from which on a measurement is noisy")
	f.IntVar(&c.Retries, "retries", 1, "how often to repeat a noisy measurement; the quietest counts")
	f.IntVar(&c.Watchers, "watchers", 5000,
		"watchers on hubs of row watchers, each on a key of its own; a multiple of 50")
	f.IntVar(&c.History, "history", 30_000, "revisions that a watcher catches up with, or what is written in 6 s")
	f.IntVar(&c.CountKeys, "count-keys", 1_000_000, "keys that are counted; they are written once")
	f.StringVar(&c.Docs, "docs", "", "docs/benchmarks.md: replace its section "+section)
	f.StringVar(&c.Dir, "dir", os.TempDir(), "directory on the disk to test; data and logs are made in it and removed")
	f.BoolVar(&c.Keep, "keep", false, "keep data and logs")
	f.StringVar(&c.Home, "fdb-home", os.Getenv(stack.HomeEnv),
		"directory with FoundationDB's bin, lib and include; default: $"+stack.HomeEnv+", or where its packages put "+
			"them")
	f.StringArrayVar(&c.KVArgs, "kv-arg", nil, "one more flag for the kv pods, as --kv-arg=--lanes=8; may be repeated")
	f.StringVar(&c.ProfileDir, "cpuprofile-dir", "",
		"write CPU profiles of kv-1 and the hubs in the window of each load here")
	return f
}

// validate completes the configuration and returns the first thing that is wrong with it.
func (c *Config) validate(f *pflag.FlagSet) error {
	if c.Quick {
		for name, v := range map[string]string{
			"rounds": "1", "duration": "2s", "warmup": "500ms", "retries": "0", "history": "10000",
			"count-keys": "20000",
		} {
			if f.Changed(name) {
				continue
			}
			if err := f.Set(name, v); err != nil {
				return err
			}
		}
	}
	for _, id := range c.Rows {
		if !slices.Contains(rowIDs(), id) {
			return errors.New("no row " + id + "; there are " + strings.Join(rowIDs(), ", "))
		}
	}
	if c.Keyspaces < 1 || c.KeyspaceRate < 1 {
		return errors.New("keyspaces and their rate must be positive")
	}
	if c.Rounds < 1 || c.Duration < time.Second || c.Warmup < 0 || c.Retries < 0 || c.Watchers < watchStreams ||
		c.Watchers%watchStreams != 0 || c.History < 2 || c.CountKeys < 500 {
		return errors.New("rounds must be positive, the duration at least 1s, warm-up and retries not negative, " +
			"watchers a multiple of 50, the history at least 2, keys that are counted 500")
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	if c.root, err = compare.FindRoot(wd); err != nil {
		return err
	}
	if c.ProfileDir != "" {
		if err := os.MkdirAll(c.ProfileDir, 0o755); err != nil {
			return err
		}
	}
	c.Dir, err = filepath.Abs(c.Dir)
	return err
}
