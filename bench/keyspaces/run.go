package keyspaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/headwaterdb/headwater/bench/proc"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Options say what is measured.
type Options struct {
	Headwater string        // the binary
	Dir       string        // for data; "": the system's directory for temporary files
	Port      int           // of the server, on loopback
	Idle      int           // keyspaces that are idle
	Settle    time.Duration // until idle ones are measured, and for how long
	Cold      int           // first requests
	Users     int           // keyspaces with a small load
	Rate      int           // writes per second of each
	Greedy    int           // clients of the greedy keyspace at a time
	Window    time.Duration // of each small load

	Spread       int           // keyspaces that the same writes are spread over
	SpreadRate   int           // writes per second in each of them
	SpreadWindow time.Duration // of each of these loads
	Rounds       int           // of them, in one keyspace and in many in turn
	Profiles     string        // directory for CPU profiles of the server during them; "": none

	Parts      []string // what is measured; empty: everything
	ServerArgs []string // more flags of the server that the writes are spread over
	Log        *slog.Logger
}

// parts are what can be measured, in order.
var parts = []struct {
	name string
	run  func(context.Context, Options, *report) error
}{{"idle", idle}, {"cold", cold}, {"neighbours", neighbours}, {"spread", spread}}

// PartNames are the names of what can be measured.
func PartNames() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

func (o *Options) check() error {
	for _, p := range o.Parts {
		if !slices.Contains(PartNames(), p) {
			return fmt.Errorf("no part %q, there are %q", p, PartNames())
		}
	}
	if o.Rate < 1 || o.SpreadRate < 1 || o.Users < 1 || o.Spread < 1 || o.Rounds < 1 {
		return errors.New("rates, keyspaces with writes, and rounds must be positive")
	}
	return nil
}

// report writes the lines of a table.
type report struct {
	w   io.Writer
	err error
}

func (r *report) line(what, format string, args ...any) {
	if _, err := fmt.Fprintf(r.w, "| %s | %s |\n", what, fmt.Sprintf(format, args...)); err != nil && r.err == nil {
		r.err = err
	}
}

// Run measures, and writes a table in Markdown.
func Run(ctx context.Context, o Options, w io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	load, err := proc.LoadAverage()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "* %s, %d CPUs (%s/%s), load average before: %.2f\n\n| what | figure |\n|---|---|\n",
		time.Now().UTC().Format("2006-01-02 15:04 MST"), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, load)
	r := &report{w: w}
	for _, part := range parts {
		if len(o.Parts) > 0 && !slices.Contains(o.Parts, part.name) {
			continue
		}
		if err := part.run(ctx, o, r); err != nil {
			return err
		}
	}
	return r.err
}

// idle measures what idle keyspaces cost. One in ten has a lease.
func idle(ctx context.Context, o Options, r *report) (err error) {
	s, err := start(ctx, o, "--keyspace-idle="+time.Second.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c, err := s.client()
	if err != nil {
		return err
	}
	o.Log.Info("idle keyspaces", "number", o.Idle)
	if err := settle(ctx, o.Settle); err != nil {
		return err
	}
	before, alone, err := s.cost(ctx, o.Settle)
	if err != nil {
		return err
	}
	if err := s.create(ctx, o.Idle); err != nil {
		return err
	}
	for i := range o.Idle {
		ctx := in(ctx, name(i))
		if _, err := c.Put(ctx, "k", "v"); err != nil {
			return err
		}
		if i%10 == 0 {
			if _, err := c.Grant(ctx, 3600); err != nil {
				return err
			}
		}
	}
	open, err := proc.ReadMemory(s.cmd.Process.Pid)
	if err != nil {
		return err
	}
	r.line(fmt.Sprintf("memory of %d keyspaces that are open, each (anonymous RSS)", o.Idle), "%d KiB",
		(open.Anon-before.Anon)/int64(o.Idle)>>10)
	if err := settle(ctx, o.Settle); err != nil {
		return err
	}
	after, cpu, err := s.cost(ctx, o.Settle)
	if err != nil {
		return err
	}
	r.line("CPU without any, of a core", "%.2f %%", 100*alone)
	r.line(fmt.Sprintf("CPU with %d idle ones, one in ten with a lease, of a core", o.Idle), "%.2f %%", 100*cpu)
	r.line("memory when idle, each (anonymous RSS; the collector returns it slowly)", "%d KiB",
		(after.Anon-before.Anon)/int64(o.Idle)>>10)
	return nil
}

// cost measures what the server costs in a window.
func (s *server) cost(ctx context.Context, window time.Duration) (m proc.Memory, cores float64, err error) {
	pid := s.cmd.Process.Pid
	was, err := proc.CPU(pid)
	if err != nil {
		return m, 0, err
	}
	if err := settle(ctx, window); err != nil {
		return m, 0, err
	}
	now, err := proc.CPU(pid)
	if err != nil {
		return m, 0, err
	}
	m, err = proc.ReadMemory(pid)
	return m, float64(now-was) / float64(window), err
}

func settle(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cold measures the first request to a closed keyspace, and the second one to compare.
func cold(ctx context.Context, o Options, r *report) (err error) {
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c, err := s.client()
	if err != nil {
		return err
	}
	if err := s.create(ctx, o.Cold); err != nil {
		return err
	}
	o.Log.Info("first requests", "number", o.Cold)
	if _, err := c.Get(ctx, "k"); err != nil { // the connection is there
		return err
	}
	var first, second []time.Duration
	for i := range o.Cold {
		ctx := in(ctx, name(i))
		for _, into := range []*[]time.Duration{&first, &second} {
			begin := time.Now()
			if _, err := c.Get(ctx, "k"); err != nil {
				return err
			}
			*into = append(*into, time.Since(begin))
		}
	}
	r.line("first request to a cold keyspace, p50, p99", "%s, %s", at(first, 0.5), at(first, 0.99))
	r.line("the second, p50, p99", "%s, %s", at(second, 0.5), at(second, 0.99))
	return nil
}

// at returns a quantile. It sorts all in place.
func at(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)].Round(10 * time.Microsecond)
}

// neighbours measures small keyspaces alone, and beside a greedy keyspace of a smaller, the same and a larger weight.
func neighbours(ctx context.Context, o Options, r *report) (err error) {
	s, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.create(ctx, o.Users); err != nil {
		return err
	}
	const greedy = "greedy"
	if _, err := s.admin.Create(ctx, &adminv1.CreateRequest{
		Name: greedy, Settings: &adminv1.Settings{Limits: &keyspacev1.Limits{}},
	}); err != nil {
		return err
	}
	o.Log.Info("neighbours", "users", o.Users, "rate", o.Rate, "greedy", o.Greedy)
	users := load{users: o.Users, rate: o.Rate, window: o.Window / 4, keyspace: name}
	if _, err := s.users(ctx, users); err != nil { // warm
		return err
	}
	users.window = o.Window
	alone, err := s.users(ctx, users)
	if err != nil {
		return err
	}
	r.line(fmt.Sprintf("%d keyspaces at %d writes/s each: p50, p99", o.Users, o.Rate), "%s, %s",
		at(alone, 0.5), at(alone, 0.99))
	stop, g := s.greed(ctx, in(ctx, greedy), o.Greedy)
	beside, err := s.users(ctx, users)
	writes, greedErr := stop()
	if err = errors.Join(err, errors.Join(greedErr, g)); err != nil {
		return err
	}
	r.line(fmt.Sprintf("the same beside one with %d writers without a pause: p50, p99", o.Greedy), "%s, %s",
		at(beside, 0.5), at(beside, 0.99))
	r.line("p99 against without", "%.2f", float64(at(beside, 0.99))/float64(at(alone, 0.99)))
	r.line("the greedy one's writes/s", "%.0f", float64(writes)/o.Window.Seconds())
	return nil
}

// load is writes at a fixed rate by users, each with a key and a keyspace.
type load struct {
	users, rate int
	window      time.Duration
	keyspace    func(user int) string
}

// users runs a load. The time of a write counts from when it was due.
func (s *server) users(ctx context.Context, l load) (all []time.Duration, err error) {
	if err := s.connect(min(l.users, 10)); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	every, begin := time.Second/time.Duration(l.rate), time.Now()
	for i := range l.users {
		c, ctx, key := s.clients[i%len(s.clients)], in(ctx, l.keyspace(i)), fmt.Sprint("k", i)
		first := begin.Add(every * time.Duration(i) / time.Duration(l.users))
		group.Go(func() error {
			var took []time.Duration
			for due := first; due.Sub(begin) < l.window; due = due.Add(every) {
				if err := settle(ctx, time.Until(due)); err != nil {
					return err
				}
				if _, err := c.Put(ctx, key, "0123456789012345678901234567890123456789"); err != nil {
					return err
				}
				took = append(took, time.Since(due))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return nil
		})
	}
	err = group.Wait() // before all is read
	return all, err
}

// greed has n writers write without a pause in the keyspace of ctx. stop ends them and returns how often they have
// written.
func (s *server) greed(parent, ctx context.Context, n int) (stop func() (writes int64, err error), err error) {
	ctx, cancel := context.WithCancel(ctx)
	clients := make([]*clientv3.Client, min(n, 8))
	for i := range clients {
		if clients[i], err = s.client(); err != nil {
			cancel()
			return func() (int64, error) { return 0, nil }, err
		}
	}
	var mu sync.Mutex
	var sum int64
	var group errgroup.Group
	for i := range n {
		c := clients[i%len(clients)]
		group.Go(func() error {
			n := int64(0)
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				sum += n
			}()
			for ; ctx.Err() == nil; n++ {
				if _, err := c.Put(ctx, fmt.Sprint(i, n%1000), "0123456789012345678901234567890123456789"); err != nil {
					if ctx.Err() != nil {
						return nil // stop has been called
					}
					return err
				}
			}
			return nil
		})
	}
	return func() (int64, error) {
		cancel()
		err := group.Wait()
		return sum, errors.Join(err, parent.Err())
	}, nil
}
