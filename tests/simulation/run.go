package simulation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	// clockStep is what each look at the clock takes: time goes on while the program computes, or a loop that waits for
	// the clock would never end.
	clockStep = 50 * time.Nanosecond
	// simulatedMax and looksMax bound a run: by its own clock, and by how often it looks at it, which a loop that waits
	// for what never comes does without end. A run may be idle for longer, and idle pods look idleLooks times a second.
	simulatedMax = 15 * time.Minute
	looksMax     = 100_000_000
	idleLooks    = 100_000
	// heapLimit is how large a program's heap grows before it collects garbage, which takes half of the time of a
	// program of a small heap that collects by the usual rule.
	heapLimit = "256MiB"
	// memoryMax bounds a program's memory.
	memoryMax = 2 << 30
)

// exitStuck is the exit code of a program that came to a bound.
const exitStuck = 3

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Names of hosts.
const (
	// HostNative runs programs that are built for this machine with a changed runtime of Go, of one release.
	HostNative = "native"
	// HostWasm runs them in WebAssembly. It takes several times as long.
	HostWasm = "wasm"
	// HostAny is the native one where Go's release is known, else the other.
	HostAny = ""
)

// host builds programs and runs them. It may be used from any goroutine, but builds one program at a time.
type host interface {
	name() string
	// build builds the tree's program into a file, and returns its name. instead names files of the tree, by their paths
	// in it, and what is in them in this build.
	build(ctx context.Context, name string, instead map[string][]byte) (file string, err error)
	// load gets ready to run a program that has been built.
	load(ctx context.Context, file string) (runner, error)
	close(ctx context.Context) error
}

// newHost returns the host of a name, for the tree at root. It says where HostAny is not the native one. What is built
// is kept in dir.
func newHost(ctx context.Context, name, root, dir string, say io.Writer) (host, error) {
	switch name {
	case HostNative:
		return newNative(ctx, root, dir)
	case HostWasm:
		return newWasm(ctx, root, dir)
	case HostAny:
		h, err := newNative(ctx, root, dir)
		if !errors.Is(err, ErrUnknownGo) {
			return h, err
		}
		fmt.Fprintf(say, "%v: runs are in WebAssembly\n", err)
		return newWasm(ctx, root, dir)
	}
	return nil, fmt.Errorf("simulation: no host %q", name)
}

// runner runs a program, from any goroutine.
type runner interface {
	run(ctx context.Context, o run) (*Result, error)
}

// run is what a program is run with.
type run struct {
	seed         uint64
	args         []string
	planted      string    // the fault that is switched on
	live         io.Writer // gets the trace as it comes; nil: nobody
	simulatedMax time.Duration
	looksMax     int64
}

// Program is a program that can be run.
type Program struct {
	// Live, if set, gets the trace of runs as it comes.
	Live io.Writer
	// Planted is the planted fault that is switched on, if it is built in.
	Planted string

	runner runner
}

// Run runs a plan. All randomness comes from the plan's seed, that of Go's scheduler too. The clock goes on only while
// all of the program's goroutines wait, then at once to when the first of them wakes; so all that the program does is a
// function of the program and the plan. It fails when ctx ends.
func (p *Program) Run(ctx context.Context, plan Plan) (*Result, error) {
	began := time.Now()
	r, err := p.runner.run(ctx, run{
		seed: plan.Seed, args: plan.Args(), planted: p.Planted, live: p.Live,
		simulatedMax: simulatedMax + plan.Idle, looksMax: looksMax + int64(plan.Idle.Seconds())*idleLooks,
	})
	if err != nil {
		return nil, err
	}
	r.Took = time.Since(began)
	return r, ctx.Err()
}

// Result is what a run has left.
type Result struct {
	// Exit is the program's exit code: 0 if no judge objected, 1 if one did, exitStuck if it did not end.
	Exit uint32
	// Output is what the program wrote: its trace and, in the last line, the verdict.
	Output []byte
	// Log is what the pods wrote, of which only the end may be kept.
	Log []byte
	// Simulated is how long the run took by its own clock, Took by the wall's.
	Simulated, Took time.Duration
}

// Sum tells runs apart that did not do the same.
func (r *Result) Sum() [sha256.Size]byte {
	return sha256.Sum256(bytes.Join([][]byte{r.Output, r.Log}, []byte{0}))
}
