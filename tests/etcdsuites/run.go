package etcdsuites

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// testTimeout is how long one test may take.
const testTimeout = 2 * time.Minute

// Outcome says how a test has ended.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
)

// Bench runs the tests of a suite against a server, which Prepare has built in Dir.
type Bench struct {
	Dir, Server, Suite string
	// Port is the first of some fifty consecutive ports that the tests use.
	Port int
}

// Tests returns the names of the suite's tests.
func (b Bench) Tests(ctx context.Context) (names []string, err error) {
	out, err := b.run(ctx, "-test.list", ".")
	if err != nil {
		return nil, err
	}
	for name := range strings.Lines(out) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, "Test") {
			names = append(names, name)
		}
	}
	return names, nil
}

// Run runs a test. Its log goes to Dir/logs.
func (b Bench) Run(ctx context.Context, name string) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	out, err := b.run(ctx, "-test.v", "-test.run", "^"+name+"$")
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return "", err
	}
	logs := filepath.Join(b.Dir, "logs", b.Server, b.Suite)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return "", err
	}
	return outcome(name, out), os.WriteFile(filepath.Join(logs, name+".log"), []byte(out), 0o644)
}

// outcome reads the outcome of a test from the output of go test -v.
func outcome(name, output string) Outcome {
	for line := range strings.Lines(output) {
		switch {
		case strings.HasPrefix(line, "--- PASS: "+name+" "):
			return Pass
		case strings.HasPrefix(line, "--- SKIP: "+name+" "):
			return Skip
		}
	}
	return Fail
}

// run runs the suite's binary in the suite's directory. All that the binary has started is in its process group, and
// ends with it.
func (b Bench) run(ctx context.Context, args ...string) (string, error) {
	bin := filepath.Join(b.Dir, b.Server)
	c := exec.CommandContext(ctx, filepath.Join(b.Dir, b.Suite+".test"), append([]string{"-bin-dir", bin}, args...)...)
	c.Dir = filepath.Join(b.Dir, "src", b.Suite)
	c.Env = append(os.Environ(), fmt.Sprintf("%s=%d", portVariable, b.Port))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // the group may be empty
	}
	return string(out), err
}
