// Command chaos runs the distributed form as local processes (package stack), kills and pauses processes of every kind
// under a load of bounded rate, and judges the history by etcd's validators (packages load and check). See `make
// chaos`.
//
// It works in rounds, each with a keyspace of its own, because the judge of linearizability takes disproportionately
// long for a long history. It ends with the first wrong round, and keeps that round's files.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/load"
	"github.com/headwaterdb/headwater/tests/stack"
)

// options are chaos's own flags.
type options struct {
	duration, round time.Duration
	rate            float64
	clients         int
	seed            uint64
	profile         string // of the traffic; "": all in turns
}

func (o *options) add(f *flag.FlagSet) {
	f.DurationVar(&o.duration, "duration", 10*time.Minute, "how long to go on, in all")
	f.DurationVar(&o.round, "round", time.Minute, "length of a round, which is judged by itself")
	f.Float64Var(&o.rate, "rate", 200, "requests per second, of all clients together")
	f.IntVar(&o.clients, "clients", 6, "concurrent clients that write and read; as many watch")
	f.StringVar(&o.profile, "profile", "", "of the traffic, key-value or kubernetes; both in turns by default")
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "of the random choices")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var o options
	cfg, err := stack.Flags("chaos", flag.ContinueOnError, args, out, o.add)
	if err != nil {
		return err
	}
	profiles := []load.Profile{load.KeyValue, load.Kubernetes}
	if o.profile != "" {
		if profiles = slices.DeleteFunc(profiles, func(p load.Profile) bool {
			return fmt.Sprint(p) != o.profile
		}); len(profiles) == 0 {
			return fmt.Errorf("--profile=%s is not one of key-value, kubernetes", o.profile)
		}
	}
	fmt.Fprintf(out, "seed %d\n", o.seed)
	rnd := rand.New(rand.NewPCG(o.seed, 0))
	prefix := fmt.Sprintf("chaos-%d", time.Now().Unix())
	cfg.Keyspace = prefix + "-0"
	s, err := stack.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() {
		if stopErr := s.Stop(); err == nil {
			err = stopErr
		}
	}()
	all := newTally()
	for n, end := 0, time.Now().Add(o.duration); time.Now().Before(end); n++ {
		if n > 0 {
			if err := renew(ctx, s, fmt.Sprintf("%s-%d", prefix, n)); err != nil {
				return err
			}
		}
		profile := profiles[n%len(profiles)]
		if err := round(ctx, s, o, profile, rnd, all, out); err != nil {
			return fmt.Errorf("round %d (%v): %w; logs are in %s/logs", n, profile, err, cfg.Dir)
		}
	}
	fmt.Fprintf(out, "\n%v", all)
	return nil
}

// renew gives all pods a keyspace that has not been used.
func renew(ctx context.Context, s *stack.Stack, keyspace string) error {
	if err := s.StopPods(); err != nil {
		return err
	}
	s.UseKeyspace(keyspace)
	if err := s.StartPods(ctx); err != nil {
		return err
	}
	return s.WaitRouted(ctx)
}
