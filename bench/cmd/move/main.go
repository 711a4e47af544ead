// Command move measures snapshots and restores beside etcd's and writes rows of a Markdown table. `make bench-move`
// runs it; see move --help. It needs Linux.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/headwaterdb/headwater/bench/move"
)

func main() {
	o := move.Options{Log: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	f := pflag.NewFlagSet("move", pflag.ContinueOnError)
	f.StringVar(&o.Headwater, "headwater", "bin/headwater", "the server's binary")
	f.StringVar(&o.Ctl, "headwaterctl", "bin/headwaterctl", "its command line's")
	f.StringVar(&o.Etcd, "etcd", "bin/etcd", "etcd's binary")
	f.StringVar(&o.Etcdutl, "etcdutl", "bin/etcdutl", "etcdutl's binary")
	f.StringVar(&o.Dir, "dir", "", "directory for data (default the system's for temporary files)")
	f.IntVar(&o.MiB, "mib", 1024, "MiB of values")
	f.IntVar(&o.ValueBytes, "value-bytes", 1024, "bytes of a value")
	f.IntVar(&o.Rounds, "rounds", 3, "times that each thing is measured")
	err := f.Parse(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = move.Snapshots(ctx, o, os.Stdout)
		stop()
	}
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
