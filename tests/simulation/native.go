package simulation

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// nativeTag is the build tag of programs for the native host.
const nativeTag = "headwater_simulation"

// native is the host that runs programs as processes of this machine, with a changed runtime of Go (goroot).
type native struct {
	*builder
	goDir   string            // GOROOT
	changed map[string][]byte // files of Go, by paths there; nil: left out
}

// newNative returns a host of the tree at root that keeps what it has built in dir. It fails with ErrUnknownGo if the
// installed release of Go is another than the one that it can change.
func newNative(ctx context.Context, root, dir string) (*native, error) {
	goDir, release, err := toolchain(ctx, root)
	if err != nil {
		return nil, err
	}
	changed, err := changedGo(goDir, release)
	if err != nil {
		return nil, err
	}
	b, err := newBuilder(ctx, root, filepath.Join(dir, HostNative), nativeModules)
	if err != nil {
		return nil, err
	}
	return &native{b, goDir, changed}, nil
}

func (n *native) name() string { return HostNative }

// build implements host.
func (n *native) build(ctx context.Context, name string, instead map[string][]byte) (string, error) {
	return n.buildPackage(ctx, name, guestPackage, instead)
}

func (n *native) buildPackage(ctx context.Context, name, pkg string, instead map[string][]byte) (string, error) {
	env := []string{
		"GOOS=" + runtime.GOOS, "GOARCH=" + runtime.GOARCH, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GODEBUG=",
	}
	flags := []string{"-buildmode=exe", "-tags=" + nativeTag}
	return n.goBuild(ctx, pkg, name, env, flags, files{n.goDir, n.changed}, files{n.root, instead})
}

// load implements host.
func (n *native) load(_ context.Context, file string) (runner, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	return nativeProgram(file), nil
}

func (n *native) close(context.Context) error { return nil }

// nativeProgram is the file of a program.
type nativeProgram string

// run implements runner. The program is a process with nothing of this one's environment, in an empty directory.
func (p nativeProgram) run(ctx context.Context, o run) (r *Result, err error) {
	tmp, err := os.MkdirTemp("", "headwater-simulation-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	// The program tells there how long the run was by its own clock.
	heard, tells, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer heard.Close()
	defer tells.Close()
	var out, log bytes.Buffer
	cmd := exec.CommandContext(ctx, string(p), o.args...)
	cmd.Args[0] = "guest"
	cmd.Dir = tmp
	cmd.Env = []string{
		"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=" + heapLimit, "TZ=UTC", "TMPDIR=.", plantedEnv + "=" + o.planted,
		fmt.Sprint("HEADWATER_SEED=", o.seed),
		fmt.Sprint("HEADWATER_SIMULATED_MAX=", int64(o.simulatedMax)), fmt.Sprint("HEADWATER_LOOKS_MAX=", o.looksMax),
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &log, []*os.File{tells}
	if o.live != nil {
		cmd.Stdout = io.MultiWriter(&out, o.live)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("simulation: %w", err)
	}
	bound := unix.Rlimit{Cur: memoryMax, Max: memoryMax}
	limitErr := unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_DATA, &bound, nil)
	err = cmd.Wait()
	exit, ended := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && (!ended || !exit.Exited()):
		return nil, fmt.Errorf("simulation: %w\n%s", err, lastLines(log.Bytes()))
	case limitErr != nil && !errors.Is(limitErr, unix.ESRCH): // it may have ended already
		return nil, fmt.Errorf("simulation: bound of memory: %w", limitErr)
	}
	r = &Result{Exit: uint32(cmd.ProcessState.ExitCode()), Output: out.Bytes(), Log: log.Bytes()}
	// The pipe has it all, as a write of a few bytes is one piece.
	if err := tells.Close(); err != nil {
		return nil, err
	}
	var simulated int64
	if binary.Read(heard, binary.NativeEndian, &simulated) == nil { // else the program crashed
		r.Simulated = time.Duration(simulated)
	}
	return r, nil
}
