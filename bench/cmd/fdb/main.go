// Command fdb measures pods on one FoundationDB process on this machine and writes a Markdown report. `make
// bench-fdb` runs it; see fdb --help. It needs Linux, the go command with a C compiler, and FoundationDB 7.3.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/headwaterdb/headwater/bench/fdb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := fdb.Main(ctx, os.Args[1:], os.Stdout, log)
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		log.Error(err.Error())
		os.Exit(1)
	}
}
