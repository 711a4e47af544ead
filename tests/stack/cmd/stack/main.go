// Command stack runs the distributed form as local processes until it is interrupted. See package stack, and `make
// stack`.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/headwaterdb/headwater/tests/stack"
)

// restartDelay is how long a process that has ended stays away. A process manager waits in the same way.
const restartDelay = time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "stack:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var podArgs []string
	var admin bool
	cfg, err := stack.Flags("stack", flag.ContinueOnError, args, out, func(f *flag.FlagSet) {
		f.BoolVar(&admin, "admin", false, "serve the admin API of each pod on a unix socket in --dir")
		f.Func("pod-arg", "one more argument for every pod, such as --keyspace-domain=kv.test; may be repeated",
			func(arg string) error { podArgs = append(podArgs, arg); return nil })
	})
	if err != nil {
		return err
	}
	cfg.Admin, cfg.PodArgs = admin, make(map[string][]string)
	for _, kind := range stack.PodKinds {
		cfg.PodArgs[kind] = podArgs
	}
	s, err := stack.Start(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\netcd clients: http://%s   /health, /metrics: http://%s   logs: %s/logs   kill -9 what you "+
		"like; Ctrl-C ends all\n\n",
		s.Endpoint(), s.HTTPEndpoint(), cfg.Dir)
	for _, p := range s.Processes("") {
		go keep(ctx, p, out)
	}
	<-ctx.Done()
	return s.Stop()
}

// keep starts p again whenever it ends by itself.
func keep(ctx context.Context, p *stack.Process, out io.Writer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.Exited():
		}
		fmt.Fprintf(out, "%-14s has ended\n", p.Name)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartDelay):
		}
		if err := p.Start(ctx); err != nil {
			fmt.Fprintln(out, err)
			continue
		}
		fmt.Fprintf(out, "%-14s is ready again\n", p.Name)
	}
}
