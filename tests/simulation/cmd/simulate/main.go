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
	o := simulation.Campaign{First: 1, Plan: simulation.PlanFlags(flag.CommandLine), Out: os.Stdout}
	one := flag.Uint64("seed", 0, "run this seed alone, and show its trace; 0: many")
	flag.Uint64Var(&o.First, "first", o.First, "the first of many seeds")
	flag.IntVar(&o.Seeds, "seeds", 10, "how many seeds")
	flag.IntVar(&o.Jobs, "jobs", 1, "how many at a time")
	flag.IntVar(&o.Repeat, "repeat", 1, "how often each seed is run; all its runs must be the same")
	flag.StringVar(&o.Program, "program", "", "run this program instead of building the tree's")
	flag.BoolVar(&o.KeepGoing, "keep-going", false, "go on after a seed that fails")
	flag.BoolVar(&o.Shrink, "shrink", true, "make runs that fail smaller")
	flag.StringVar(&o.Sometimes, "sometimes", "", "file that lists what many seeds have to meet")
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
		return s.Replay(ctx, o, *one)
	}
	return s.Run(ctx, o)
}
