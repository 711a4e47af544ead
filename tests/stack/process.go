package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/headwaterdb/headwater/tests/internal/spawn"
)

const (
	// readyTimeout is how long a process may take to answer after its start.
	readyTimeout = 2 * time.Minute
	readyPoll    = 50 * time.Millisecond
	// StopTimeout is how long a process may take to end after SIGTERM before it is killed.
	StopTimeout = 2 * time.Minute
)

// Process is one process of the stack, which may be started again after it has ended.
type Process struct {
	Name string // kv-1
	Kind string // kv
	Log  string // path of what it writes, over all its lives

	Address, Metrics string // of a pod: host:port for clients and for metrics
	Admin            string // of a pod with Config.Admin: unix://path of its admin API

	path      string
	args, env []string
	ready     func(context.Context) error // nil error: it answers

	mu     sync.Mutex
	cmd    *exec.Cmd // nil before the first start
	exited chan struct{}
	err    error // of cmd.Wait; read after exited
}

// Start starts the process and returns when it is ready. If it returns an error the process is gone.
func (p *Process) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && !closed(p.exited) {
		return fmt.Errorf("stack: %s is running", p.Name)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own descriptor
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(cleanEnv(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := spawn.Start(cmd); err != nil {
		return fmt.Errorf("stack: %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() {
		p.err = cmd.Wait()
		close(exited)
	}()
	if err := p.wait(ctx); err != nil {
		_ = cmd.Process.Kill() // it may have ended
		<-exited
		return err
	}
	return nil
}

// waitReady returns when the process is ready.
func (p *Process) waitReady(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wait(ctx)
}

// wait returns when the process is ready or says why it is not; p.mu is held.
func (p *Process) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	for {
		err := p.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("stack: %s ended (%w) before it was ready; see %s", p.Name, p.err, p.Log)
		case <-ctx.Done():
			return fmt.Errorf("stack: %s is not ready (%w); see %s", p.Name, err, p.Log)
		case <-tick.C:
		}
	}
}

// PID is the process id of the process that was started last; 0 before the first start.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Running reports whether the process has been started and has not ended.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && !closed(p.exited)
}

// Exited is closed when the process that was started last has ended.
func (p *Process) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// ErrNotRunning says that there is no process to act on.
var ErrNotRunning = errors.New("stack: not running")

// Kill ends the process with SIGKILL and returns when it is gone.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL) }

// Stop ends the process with SIGTERM, and with SIGKILL if that takes longer than StopTimeout, which is an error.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

func (p *Process) end(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || closed(p.exited) {
		return fmt.Errorf("%w: %s", ErrNotRunning, p.Name)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("stack: %s: %w", p.Name, err)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(StopTimeout):
	}
	err := fmt.Errorf("stack: %s still exists %v after %v; see %s", p.Name, StopTimeout, sig, p.Log)
	err = errors.Join(err, p.cmd.Process.Kill())
	<-p.exited
	return err
}

// Pause stops the execution of the process until Resume.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || closed(p.exited) {
		return fmt.Errorf("%w: %s", ErrNotRunning, p.Name)
	}
	return p.cmd.Process.Signal(sig)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
