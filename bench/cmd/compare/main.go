// Command compare measures Headwater, etcd and a null server side by side on this machine and writes a Markdown
// report. `make bench` runs it; see compare --help. It needs Linux and the go command.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/headwaterdb/headwater/bench/compare"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := compare.Main(ctx, os.Args[1:], os.Stdout, log)
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		log.Error(err.Error())
		os.Exit(1)
	}
}
