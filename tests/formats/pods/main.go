// Command pods runs a deployment's pods of all three kinds in one process, on an engine of another process
// (tests/internal/remoteengine). The tests of the directory above build it from this tree and from that of an earlier
// release, so whatever it uses has to be in both. Only services.go differs: the earlier release has a version of its
// own (testdata/format1).
//
//	pods ENGINE-SOCKET SOCKETS NAME NAMES [flags of pods]
//
// SOCKETS is a directory for the sockets at which pods find each other. NAMES are the names of all processes that may
// run, separated by commas.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/headwaterdb/headwater/tests/internal/remoteengine"
)

// kinds are the kinds of pods in the order in which they start. The kv pod, which clients talk to, comes last, when the
// pods that it relays to are there.
var kinds = []kind{leaseKeeper, watchHub, kv}

// readyText is what the process prints when all its pods serve.
const readyText = "all pods are ready"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "pods: see the package comment for the arguments")
		os.Exit(2) //nolint:gocritic // the process ends, so stop need not run
	}
	l := layout{os.Args[2], os.Args[3], strings.Split(os.Args[4], ",")}
	if err := serve(ctx, l, os.Args[1], os.Args[5:]); err != nil {
		fmt.Fprintln(os.Stderr, "pods:", err)
		os.Exit(1)
	}
}

// serve runs the pods until ctx ends or one fails.
func serve(ctx context.Context, l layout, socket string, args []string) (err error) {
	engine, err := remoteengine.Dial(ctx, socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})).With("process", l.name)
	failed := make(chan error, len(kinds))
	for _, k := range kinds {
		c, err := l.config(k, args)
		if err != nil {
			return err
		}
		n, err := start(ctx, k, c, engine, log.With("pod", string(k)))
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		defer func() {
			n.Drain(context.Background())
			err = errors.Join(err, n.Close())
		}()
		go func() { failed <- fmt.Errorf("%s: %w", k, <-n.Failed()) }()
	}
	fmt.Println(readyText)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// layout says where pods find each other.
type layout struct {
	dir, name string
	names     []string
}

func (l layout) socket(k kind, name string) string {
	return "unix://" + filepath.Join(l.dir, name+"-"+string(k))
}

// sockets returns the sockets of all pods of a kind. The socket of this process comes first.
func (l layout) sockets(k kind) []string {
	all := []string{l.socket(k, l.name)}
	for _, name := range l.names {
		if s := l.socket(k, name); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// config returns the configuration of this process's pod of a kind. The kv pod serves clients at the address in the
// flags.
func (l layout) config(k kind, args []string) (settings, error) {
	for _, other := range kinds {
		args = append(slices.Clone(args), "--"+string(other)+"-endpoints="+strings.Join(l.sockets(other), ","))
	}
	c, err := parse(k, args)
	if err != nil {
		return c, err
	}
	c.Name, c.PodAddress = l.name+"-"+string(k), l.socket(k, l.name)
	if c.DataDir = ""; k == watchHub {
		c.DataDir = filepath.Join(l.dir, c.Name+".data")
	}
	if k != kv {
		c.ListenClientURLs, c.AdvertiseClientURLs = nil, nil
	}
	c.ListenClientURLs, c.ListenMetricsURLs = append([]string{c.PodAddress}, c.ListenClientURLs...), nil
	return c, nil
}
