// Command mutate judges the mutants of packages (package mutate).
//
//	mutate [--files=a.go,b*.go] [--sample=N --seed=N] [--keep-killed] [--again] [--list] libs/feed …
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/headwaterdb/headwater/tests/mutate"
)

var (
	files      = flag.String("files", "", "patterns of file names, with commas between them; none: all")
	sample     = flag.Int("sample", 0, "judge so many mutants of a package; 0: all")
	seed       = flag.Uint64("seed", 1, "of the sample and the order")
	keepKilled = flag.Bool("keep-killed", false, "what other tests of the package have killed counts as killed")
	again      = flag.Bool("again", false, "judge only what has survived before, with other tests")
	list       = flag.Bool("list", false, "only list the mutants")
	results    = flag.String("results", "data/mutate/results.jsonl", "the file in which results are kept")
	survivors  = flag.String("survivors", "tests/mutate/survivors.txt", "the list of mutants that may survive")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the process ends, so stop need not run
	}
}

func run(ctx context.Context) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	r := mutate.Runner{
		Root: root, Results: *results, Out: os.Stdout,
		Sample: *sample, Seed: *seed, KeepKilled: *keepKilled, Again: *again,
	}
	if *files != "" {
		r.Files = strings.Split(*files, ",")
	}
	if r.Survivors, err = readSurvivors(*survivors); err != nil {
		return err
	}
	if *list {
		return printList(&r)
	}
	all, err := r.Run(ctx, flag.Args())
	for i := range all {
		fmt.Println(&all[i])
	}
	return err
}

func printList(r *mutate.Runner) error {
	for _, pkg := range flag.Args() {
		all, err := r.List(pkg)
		if err != nil {
			return err
		}
		for i := range all {
			fmt.Println(&all[i])
		}
	}
	return nil
}

func readSurvivors(path string) (mutate.Survivors, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mutate.ParseSurvivors(f)
}
