// Command etcdsuites runs a suite of etcd's own tests against the built server, and prints which tests have passed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/headwaterdb/headwater/tests/etcdsuites"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the process ends, so stop need not run
	}
}

func run(ctx context.Context) (err error) {
	b := etcdsuites.Bench{}
	flag.StringVar(&b.Suite, "suite", "e2e", "e2e or common")
	flag.StringVar(&b.Server, "server", etcdsuites.Headwater, "headwater or etcd")
	flag.StringVar(&b.Dir, "dir", "", "where everything is built, and logs are kept; default: a new directory")
	flag.IntVar(&b.Port, "port", 20000, "the first of the ports")
	all := flag.Bool("all", false, "all tests, and not only those that pass on one etcd")
	only := flag.String("run", "", "a regular expression: only tests that match")
	built := flag.Bool("built", false, "-dir has everything")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if b.Dir == "" {
		if b.Dir, err = os.MkdirTemp("", "etcdsuites-"); err != nil {
			return err
		}
	}
	if !*built {
		if err := etcdsuites.Prepare(ctx, b.Dir, b.Server, b.Suite); err != nil {
			return err
		}
	}
	return b.RunAll(ctx, os.Stdout, *all, match)
}
