// Command keyspaces measures many keyspaces in one standalone server on this machine and writes a Markdown table.
// `make bench-keyspaces` runs it; see keyspaces --help. It needs Linux.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/headwaterdb/headwater/bench/keyspaces"
)

func main() {
	o := keyspaces.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	f := pflag.NewFlagSet("keyspaces", pflag.ContinueOnError)
	f.StringVar(&o.Headwater, "headwater", "bin/headwater", "the server's binary")
	f.StringVar(&o.Dir, "dir", "", "directory for data (default the system's for temporary files)")
	f.IntVar(&o.Port, "port", 22379, "port of the server on 127.0.0.1")
	f.IntVar(&o.Idle, "idle", 1000, "keyspaces that are idle")
	const settle = "time until idle keyspaces are measured, and for how long they are"
	f.DurationVar(&o.Settle, "settle", 10*time.Second, settle)
	f.IntVar(&o.Cold, "cold", 200, "first requests")
	f.IntVar(&o.Users, "users", 100, "keyspaces with a small load")
	f.IntVar(&o.Rate, "rate", 10, "writes per second of each of them")
	f.IntVar(&o.Greedy, "greedy", 64, "writers without a pause in one more")
	f.DurationVar(&o.Window, "window", 10*time.Second, "time of each small load")
	f.IntVar(&o.Spread, "spread", 1000, "keyspaces that the same writes are spread over, against one")
	f.IntVar(&o.SpreadRate, "spread-rate", 4, "writes per second in each of them")
	f.DurationVar(&o.SpreadWindow, "spread-window", 5*time.Second, "time of each of these loads")
	f.IntVar(&o.Rounds, "rounds", 3, "of these loads, in one keyspace and in many in turn")
	f.StringVar(&o.Profiles, "profiles", "", "directory for CPU profiles of the server during these loads")
	f.StringSliceVar(&o.Parts, "parts", keyspaces.PartNames(), "what is measured")
	f.StringArrayVar(&o.ServerArgs, "server-arg", nil, "one more flag of the server of these loads (repeatable)")
	err := f.Parse(os.Args[1:])
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = keyspaces.Run(ctx, o, os.Stdout)
		stop()
	}
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		o.Log.Error(err.Error())
		os.Exit(1)
	}
}
