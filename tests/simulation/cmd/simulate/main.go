// Command simulate runs seeds of the simulation (make simulate; see package simulation).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/headwaterdb/headwater/tests/simulation"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1) //nolint:gocritic // stop need not run
	}
}

func run(ctx context.Context) error {
	o := simulation.Campaign{First: 1, Plan: simulation.NewPlan(0), Out: os.Stdout}
	one := flag.Uint64("seed", 0, "run this seed alone, and show its trace; 0: many")
	flag.Uint64Var(&o.First, "first", o.First, "the first of many seeds")
	flag.IntVar(&o.Seeds, "seeds", 10, "how many seeds")
	flag.IntVar(&o.Jobs, "jobs", 1, "how many at a time")
	flag.IntVar(&o.Repeat, "repeat", 1, "how often each seed is run; all its runs must be the same")
	flag.StringVar(&o.Program, "program", "", "run this program instead of building the tree's")
	flag.BoolVar(&o.KeepGoing, "keep-going", false, "go on after a seed that fails")
	flag.BoolVar(&o.Shrink, "shrink", true, "make runs that fail smaller")
	flag.StringVar(&o.Sometimes, "sometimes", "", "file that lists what many seeds have to meet")
	flag.DurationVar(&o.Plan.Duration, "duration", o.Plan.Duration, "how long faults happen in a run")
	flag.DurationVar(&o.Plan.Idle, "idle", 0, "how long nobody asks anything before clients come")
	flag.IntVar(&o.Plan.Faults, "faults", o.Plan.Faults, "how many faults there are at most")
	flag.IntVar(&o.Plan.Clients, "clients", o.Plan.Clients, "clients that read and write")
	flag.IntVar(&o.Plan.Watchers, "watchers", o.Plan.Watchers, "clients that watch")
	flag.IntVar(&o.Plan.Leases, "leases", o.Plan.Leases, "leases that are kept alive and left to end")
	flag.IntVar(&o.Plan.Users, "users", o.Plan.Users, "users whose permissions change")
	flag.IntVar(&o.Plan.Limited, "limited", o.Plan.Limited, "clients that want more than a limit allows")
	flag.IntVar(&o.Plan.Counts, "counts", o.Plan.Counts, "clients whose transactions count what all of them make")
	flag.BoolVar(&o.Plan.Moves, "moves", o.Plan.Moves, "migrate a keyspace into another")
	flag.StringVar(&o.Plan.Only, "only", "", "kinds of faults, with - for spaces, commas between; empty: as seeds say")
	flag.BoolVar(&o.Plan.Backups, "backups", o.Plan.Backups, "take snapshots of the traffic's keyspace")
	flag.BoolVar(&o.Plan.Calm, "calm", false, "no faults of the database and of the bus by chance")
	flag.BoolVar(&o.PlantedOnly, "planted-only", false, "with -planted: do not run the seeds first with none of them")
	host := flag.String("host", simulation.HostAny,
		"what runs are in: native (built with a changed runtime of Go) or wasm; empty: native where Go's release is known")
	planted := flag.String("planted", "", "look for these planted faults (names with commas between, or all)")
	flag.Parse()
	root, err := filepath.Abs(".")
	if err != nil {
		return err
	}
	s, err := simulation.Open(ctx, *host, root, filepath.Join(root, "bin", "simulation"), os.Stdout)
	if err != nil {
		return err
	}
	defer s.Close(context.WithoutCancel(ctx))
	switch {
	case *planted != "":
		return s.FindPlanted(ctx, *planted, o)
	case *one != 0:
		o.Plan.Seed = *one
		return s.Replay(ctx, o)
	}
	return s.Run(ctx, o)
}
