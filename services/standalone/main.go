package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/server"
)

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is the process: it serves until ctx ends.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	parsed, err := server.Parse(args, environ)
	switch {
	case err != nil:
	case parsed.Help:
		fmt.Fprint(stdout, server.Usage())
		return exitOK
	case parsed.Version:
		fmt.Fprint(stdout, server.VersionText(etcdapi.EmulatedVersion))
		return exitOK
	default:
		err = serve(ctx, parsed, stdout, stderr)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "headwater: %s\n", oneLine(err))
	var usage server.UsageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}
