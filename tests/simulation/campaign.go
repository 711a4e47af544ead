package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Simulation is the program of a tree, built and ready to run.
type Simulation struct {
	host      host
	root, dir string
}

// Open prepares the simulation of the tree at root on a host, which is one of Host's names. What is built and compiled
// is kept in dir. It says what a reader of runs should know.
func Open(ctx context.Context, host, root, dir string, say io.Writer) (*Simulation, error) {
	h, err := newHost(ctx, host, root, dir, say)
	if err != nil {
		return nil, err
	}
	return &Simulation{h, root, dir}, nil
}

// Host is the name of the host.
func (s *Simulation) Host() string { return s.host.name() }

// Close releases what it has.
func (s *Simulation) Close(ctx context.Context) error { return s.host.close(ctx) }

// Program builds the tree's program. instead names files of the tree, by their paths in it, and what is in them in this
// build.
func (s *Simulation) Program(ctx context.Context, name string, instead map[string][]byte) (*Program, error) {
	file, err := s.host.build(ctx, name, instead)
	if err != nil {
		return nil, err
	}
	return s.load(ctx, file)
}

func (s *Simulation) load(ctx context.Context, file string) (*Program, error) {
	r, err := s.host.load(ctx, file)
	if err != nil {
		return nil, err
	}
	return &Program{runner: r}, nil
}

// Campaign is many runs.
type Campaign struct {
	Plan      func(seed uint64) (Plan, error)
	First     uint64
	Seeds     int
	Jobs      int  // runs at a time
	Repeat    int  // how often each seed is run
	KeepGoing bool // after a seed that fails
	Shrink    bool // make runs that fail smaller
	// Sometimes names a file that lists what all seeds together have to meet; "": nothing.
	Sometimes string
	// Program is a file with a program that has been built; "": the tree's is built.
	Program string
	// PlantedOnly has FindPlanted not run the seeds first with no fault switched on.
	PlantedOnly bool
	Out         io.Writer
}

// program is what a campaign runs.
func (s *Simulation) program(ctx context.Context, c Campaign) (*Program, error) {
	if c.Program != "" {
		return s.load(ctx, c.Program)
	}
	return s.Program(ctx, "guest", nil)
}

// Execute runs a plan.
func (p *Program) Execute(ctx context.Context, plan Plan) (*Result, Verdict, error) {
	r, err := p.Run(ctx, plan)
	if err != nil {
		return nil, Verdict{}, err
	}
	v, err := r.Verdict()
	return r, v, err
}

// ErrFound says that judges have objected to a run.
var ErrFound = errors.New("simulation: a seed fails")

// progressRuns is how many runs there are between two lines that tell of them.
const progressRuns = 50

// tally is what a campaign knows so far.
type tally struct {
	out       io.Writer
	mu        sync.Mutex
	runs      int
	failed    []uint64
	seen      map[string]int
	simulated time.Duration
}

// Run runs the seeds of a campaign. It fails with ErrFound if judges object to one, or if two runs of one seed differ.
func (s *Simulation) Run(ctx context.Context, c Campaign) error {
	p, err := s.program(ctx, c)
	if err != nil {
		return err
	}
	began, used := time.Now(), cpuTime()
	t := &tally{out: c.Out, seen: make(map[string]int)}
	err = s.each(ctx, c, p, t)
	used = cpuTime() - used
	fmt.Fprintf(c.Out, "%d runs in %v, %v of CPU, %v simulated (%.0f × real time, %.0f × the CPU's), "+
		"%d seeds failed %v\n",
		t.runs, time.Since(began).Round(time.Second), used.Round(time.Second), t.simulated.Round(time.Second),
		t.simulated.Seconds()/time.Since(began).Seconds(), t.simulated.Seconds()/used.Seconds(),
		len(t.failed), t.failed)
	if err == nil && c.Sometimes != "" {
		err = sometimes(c.Sometimes, t.seen)
	}
	for _, what := range slices.Sorted(maps.Keys(t.seen)) {
		fmt.Fprintf(c.Out, "  %7d %s\n", t.seen[what], what)
	}
	return err
}

// cpuTime is the CPU time that this process has used, and those that it has started and waited for.
func cpuTime() (used time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err == nil {
			used += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return used
}

func (s *Simulation) each(ctx context.Context, c Campaign, p *Program, t *tally) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range max(c.Jobs, 1) {
		wg.Go(func() {
			for seed := range seeds {
				if err := s.seed(ctx, c, p, t, seed); err != nil && (!c.KeepGoing || !errors.Is(err, ErrFound)) {
					cancel(err)
					return
				}
			}
		})
	}
	for i := 0; i < c.Seeds && ctx.Err() == nil; i++ {
		select {
		case seeds <- c.First + uint64(i):
		case <-ctx.Done():
		}
	}
	close(seeds)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if len(t.failed) > 0 {
		return ErrFound
	}
	return nil
}

// seed runs one seed, as often as it is to be repeated.
func (s *Simulation) seed(ctx context.Context, c Campaign, p *Program, t *tally, seed uint64) error {
	plan, err := c.Plan(seed)
	if err != nil {
		return err
	}
	var first *Result
	for range max(c.Repeat, 1) {
		r, v, err := p.Execute(ctx, plan)
		if err != nil {
			return err
		}
		if first == nil {
			first = r
		}
		t.add(r, v, seed)
		if r.Sum() != first.Sum() {
			return fmt.Errorf("simulation: two runs of seed %d differ: %w", seed, ErrFound)
		}
		if !v.Good {
			return s.found(ctx, c, p, plan, r, v)
		}
	}
	return nil
}

func (t *tally) add(r *Result, v Verdict, seed uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs++
	t.simulated += r.Simulated
	for what, n := range v.Seen {
		t.seen[what] += n
	}
	if t.runs%progressRuns == 0 {
		fmt.Fprintf(t.out, "%d runs, seed %d was the last\n", t.runs, seed)
	}
	if !v.Good {
		t.failed = append(t.failed, seed)
	}
}

// found tells of a run that failed: what judges say, and what replays it.
func (s *Simulation) found(ctx context.Context, c Campaign, p *Program, plan Plan, r *Result, v Verdict) error {
	if c.Shrink {
		plan, r, v = p.shrink(ctx, plan, r, v)
	}
	file := filepath.Join(s.dir, "failed", fmt.Sprint(plan.Seed))
	err := errors.Join(writeFile(file+".trace", r.Output), writeFile(file+".log", r.Log))
	fmt.Fprintf(c.Out, "seed %d: %s\n  trace in %s.trace, pods' logs in %s.log\n  replay: %s\n",
		plan.Seed, strings.Join(v.Why, "\n  "), file, file, plan.Command(s.Host()))
	return errors.Join(fmt.Errorf("%w: %d", ErrFound, plan.Seed), err)
}

// Replay runs one seed and shows its plan and its trace.
func (s *Simulation) Replay(ctx context.Context, c Campaign, seed uint64) error {
	plan, err := c.Plan(seed)
	if err != nil {
		return err
	}
	p, err := s.program(ctx, c)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "%s\n", plan.Command(s.Host()))
	p.Live = c.Out
	var first *Result
	for range max(c.Repeat, 1) {
		r, v, err := p.Execute(ctx, plan)
		if err != nil {
			return err
		}
		if first != nil && r.Sum() != first.Sum() {
			return fmt.Errorf("simulation: two runs of seed %d differ", seed)
		}
		if first == nil {
			first = r
			p.Live = nil
		}
		fmt.Fprintf(c.Out, "%x, %v simulated in %v\n", r.Sum(), r.Simulated, r.Took)
		if !v.Good {
			file := filepath.Join(s.dir, "failed", fmt.Sprint(seed))
			fmt.Fprintf(c.Out, "%s\n", strings.Join(v.Why, "\n"))
			return errors.Join(ErrFound, writeFile(file+".trace", r.Output), writeFile(file+".log", r.Log))
		}
	}
	return nil
}

// sometimes checks that each line of a file has been met.
func sometimes(file string, seen map[string]int) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var missed []string
	for _, what := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if what != "" && !strings.HasPrefix(what, "#") && seen[what] == 0 {
			missed = append(missed, what)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("simulation: never met:\n  %s", strings.Join(missed, "\n  "))
	}
	return nil
}
