package simulation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

const (
	// clockStep is what each look at the clock takes: time goes on while the program computes, or a loop that waits for
	// the clock would never end.
	clockStep = 50 * time.Nanosecond
	// simulatedMax and looksMax bound a run: by its own clock, and by how often it looks at it, which a loop that waits
	// for what never comes does without end.
	simulatedMax = 15 * time.Minute
	looksMax     = 100_000_000
	// stopLooks is after how many looks a run finds out that it is to stop.
	stopLooks = 4096
	// heapLimit is how large a program's heap grows before it collects garbage, which takes half of the time of a
	// program of a small heap that collects by the usual rule.
	heapLimit = "256MiB"
	// memoryPages bounds a program's memory, in pages of 64 KiB.
	memoryPages = 32 << 10
)

// exitStuck is the exit code of a program that came to a bound.
const exitStuck = 3

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// compiledMax is how many compiled programs are kept, of some 175 MB each: the newest.
const compiledMax = 3

// Host runs programs. Make one with NewHost. It may be used from any goroutine.
type Host struct {
	runtime wazero.Runtime
	dir     string // of compiled programs
	mem     *memories
}

// NewHost returns a host that keeps what it has compiled in dir.
func NewHost(ctx context.Context, dir string) (*Host, error) {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	config := wazero.NewRuntimeConfigCompiler().WithCompilationCache(cache).
		WithMemoryLimitPages(memoryPages)
	r := wazero.NewRuntimeWithConfig(ctx, config)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return nil, fmt.Errorf("simulation: %w", errors.Join(err, r.Close(ctx)))
	}
	_, err = r.NewHostModuleBuilder("simulation").
		NewFunctionBuilder().WithFunc(stepWallClock).Export("step_wall_clock").
		Instantiate(ctx)
	if err != nil {
		return nil, fmt.Errorf("simulation: %w", errors.Join(err, r.Close(ctx)))
	}
	return &Host{r, dir, &memories{}}, nil
}

// clock is that of a run.
type clock struct {
	now  int64 // in nanoseconds since 1970, on which timers and the monotonic clock go
	wall int64 // by how much the wall clock differs
}

type clockKey struct{}

// stepWallClock is what a program calls to have its wall clock jump by some nanoseconds; no timer notices.
func stepWallClock(ctx context.Context, by int64) { ctx.Value(clockKey{}).(*clock).wall += by }

// Close releases what the host has.
func (h *Host) Close(ctx context.Context) error {
	err := h.runtime.Close(ctx)
	h.mem.close()
	return err
}

// Program is a compiled program.
type Program struct {
	// Live, if set, gets the trace of runs as it comes.
	Live io.Writer
	// Planted is the planted fault that is switched on, if it is built in.
	Planted string

	h      *Host
	module wazero.CompiledModule
}

// Compile reads a program from a file.
func (h *Host) Compile(ctx context.Context, file string) (*Program, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	m, err := h.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), b)
	if err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	return &Program{h: h, module: m}, h.prune()
}

// prune removes all compiled programs but the newest.
func (h *Host) prune() error {
	files, err := filepath.Glob(filepath.Join(h.dir, "*", "*"))
	if err != nil {
		return err
	}
	when := func(file string) time.Time {
		i, err := os.Stat(file)
		if err != nil {
			return time.Time{}
		}
		return i.ModTime()
	}
	slices.SortFunc(files, func(a, b string) int { return when(b).Compare(when(a)) })
	for _, file := range files[min(len(files), compiledMax):] {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

// Result is what a run has left.
type Result struct {
	Args []string
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

// Run runs the program with a seed, from which all its randomness comes, its scheduler's too. The clock goes on only
// while all of the program's goroutines wait, then at once to when the first of them wakes; so all that the program
// does is a function of the program, the seed and args. It fails when ctx ends.
func (p *Program) Run(ctx context.Context, seed uint64, args ...string) (*Result, error) {
	began := time.Now()
	c := &clock{now: epoch.UnixNano()}
	tmp, err := os.MkdirTemp("", "headwater-simulation-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	var out, log bytes.Buffer
	var trace io.Writer = &out
	if p.Live != nil {
		trace = io.MultiWriter(&out, p.Live)
	}
	looks := 0
	tick := func() int64 {
		c.now += int64(clockStep)
		looks++
		stopped := looks%stopLooks == 0 && ctx.Err() != nil
		if stopped || looks > looksMax || c.now-epoch.UnixNano() > int64(simulatedMax) {
			panic(sys.NewExitError(exitStuck))
		}
		return c.now
	}
	config := wazero.NewModuleConfig().WithName("").
		WithArgs(append([]string{"guest"}, args...)...).
		WithEnv("GOMAXPROCS", "1").WithEnv("GOGC", "off").WithEnv("GOMEMLIMIT", heapLimit).
		WithEnv(plantedEnv, p.Planted).
		WithStdout(trace).WithStderr(&log).
		WithFSConfig(wazero.NewFSConfig().WithDirMount(tmp, "/tmp")).
		WithRandSource(random(seed)).
		WithNanotime(tick, sys.ClockResolution(clockStep)).
		WithWalltime(func() (int64, int32) {
			t := tick() + c.wall
			return t / int64(time.Second), int32(t % int64(time.Second))
		}, sys.ClockResolution(clockStep)).
		WithNanosleep(func(ns int64) { c.now += max(ns, 0) })
	in := experimental.WithMemoryAllocator(context.WithValue(ctx, clockKey{}, c), p.h.mem)
	m, err := p.h.runtime.InstantiateModule(in, p.module, config)
	r := &Result{Args: args}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		r.Exit, err = exit.ExitCode(), nil
	}
	if m != nil {
		err = errors.Join(err, m.Close(ctx))
	}
	r.Output, r.Log = out.Bytes(), log.Bytes()
	r.Simulated, r.Took = time.Duration(c.now-epoch.UnixNano()), time.Since(began)
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return r, err
}

// random is the randomness of a seed.
func random(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}
