package simulation

import (
	"bytes"
	"context"
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

// memoryPages bounds a program's memory, in pages of 64 KiB.
const memoryPages = memoryMax >> 16

// stopLooks is after how many looks at the clock a run finds out that it is to stop.
const stopLooks = 4096

// compiledMax is how many compiled programs are kept, of some 175 MB each: the newest.
const compiledMax = 3

// wasm is the host that runs programs in WebAssembly.
type wasm struct {
	*builder
	runtime  wazero.Runtime
	compiled string // where compiled programs are
	mem      *memories
}

// newWasm returns a host of the tree at root that keeps what it has built and compiled in dir.
func newWasm(ctx context.Context, root, dir string) (*wasm, error) {
	b, err := newBuilder(ctx, root, dir, wasmModules)
	if err != nil {
		return nil, err
	}
	compiled := filepath.Join(dir, "compiled")
	cache, err := wazero.NewCompilationCacheWithDir(compiled)
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
	return &wasm{b, r, compiled, &memories{}}, nil
}

// clock is that of a run.
type clock struct {
	now  int64 // in nanoseconds since 1970, on which timers and the monotonic clock go
	wall int64 // by how much the wall clock differs
}

type clockKey struct{}

// stepWallClock is what a program calls to have its wall clock jump by some nanoseconds; no timer notices.
func stepWallClock(ctx context.Context, by int64) { ctx.Value(clockKey{}).(*clock).wall += by }

func (h *wasm) name() string { return HostWasm }

// build implements host.
func (h *wasm) build(ctx context.Context, name string, instead map[string][]byte) (string, error) {
	env := []string{"GOOS=wasip1", "GOARCH=wasm"}
	return h.goBuild(ctx, guestPackage, name+".wasm", env, nil, files{h.root, instead})
}

func (h *wasm) close(ctx context.Context) error {
	err := h.runtime.Close(ctx)
	h.mem.close()
	return err
}

// wasmProgram is a compiled program.
type wasmProgram struct {
	h      *wasm
	module wazero.CompiledModule
}

// load compiles the program in a file.
func (h *wasm) load(ctx context.Context, file string) (runner, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	m, err := h.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), b)
	if err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	return &wasmProgram{h, m}, h.prune()
}

// prune removes all compiled programs but the newest.
func (h *wasm) prune() error {
	files, err := filepath.Glob(filepath.Join(h.compiled, "*", "*"))
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

// run implements runner. The program's runtime takes its randomness, and its clock, from the host.
func (p *wasmProgram) run(ctx context.Context, o run) (*Result, error) {
	c := &clock{now: epoch.UnixNano()}
	tmp, err := os.MkdirTemp("", "headwater-simulation-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	var out, log bytes.Buffer
	var trace io.Writer = &out
	if o.live != nil {
		trace = io.MultiWriter(&out, o.live)
	}
	var looks int64
	tick := func() int64 {
		c.now += int64(clockStep)
		looks++
		stopped := looks%stopLooks == 0 && ctx.Err() != nil
		if stopped || looks > o.looksMax || c.now-epoch.UnixNano() > int64(o.simulatedMax) {
			panic(sys.NewExitError(exitStuck))
		}
		return c.now
	}
	config := wazero.NewModuleConfig().WithName("").
		WithArgs(append([]string{"guest"}, o.args...)...).
		WithEnv("GOMAXPROCS", "1").WithEnv("GOGC", "off").WithEnv("GOMEMLIMIT", heapLimit).
		WithEnv(plantedEnv, o.planted).
		WithStdout(trace).WithStderr(&log).
		WithFSConfig(wazero.NewFSConfig().WithDirMount(tmp, "/tmp")).
		WithRandSource(random(o.seed)).
		WithNanotime(tick, sys.ClockResolution(clockStep)).
		WithWalltime(func() (int64, int32) {
			t := tick() + c.wall
			return t / int64(time.Second), int32(t % int64(time.Second))
		}, sys.ClockResolution(clockStep)).
		WithNanosleep(func(ns int64) { c.now += max(ns, 0) })
	in := experimental.WithMemoryAllocator(context.WithValue(ctx, clockKey{}, c), p.h.mem)
	m, err := p.h.runtime.InstantiateModule(in, p.module, config)
	r := &Result{}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		r.Exit, err = exit.ExitCode(), nil
	}
	if m != nil {
		err = errors.Join(err, m.Close(ctx))
	}
	r.Output, r.Log, r.Simulated = out.Bytes(), log.Bytes(), time.Duration(c.now-epoch.UnixNano())
	return r, err
}

// random is the randomness of a seed.
func random(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}
