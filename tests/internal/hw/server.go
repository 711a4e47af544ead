package hw

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/porttest"
	"github.com/headwaterdb/headwater/tests/internal/spawn"
)

const (
	// readyLine is what etcd logs when it serves; process managers and etcd's own e2e tests wait for it.
	readyLine = "ready to serve client requests"

	readyTimeout = 2 * time.Minute
	// StopTimeout is how long a server may take to end after SIGTERM, whether it has watchers or not. It usually
	// ends within a few seconds; the rest is for slow or busy machines.
	StopTimeout = 2 * time.Minute

	// logTailMaxBytes bounds what is kept of a server's output for failure reports.
	logTailMaxBytes = 64 << 10
)

// Server is a server process on one data directory and address.
type Server struct {
	prog   Program
	layout Layout
	extra  []string
	log    *tail

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil while no process runs
	exited chan struct{} // closed when cmd has been waited for
	err    error         // what Wait returned; read after exited
}

// New prepares a server without starting it. extra is appended to the program's command line. When the test ends, a
// running process is killed, and if the test failed, the end of its output is logged.
func New(tb testing.TB, p Program, dataDir string, extra ...string) *Server {
	tb.Helper()
	s := &Server{prog: p, extra: extra, log: &tail{}, layout: Layout{
		DataDir:   dataDir,
		ClientURL: "http://" + porttest.Addr(tb),
		PeerURL:   "http://" + porttest.Addr(tb),
	}}
	tb.Cleanup(func() {
		if err := s.Kill(); err != nil && !errors.Is(err, ErrNotRunning) {
			tb.Errorf("%s: %v", p.Name, err)
		}
		if tb.Failed() {
			tb.Logf("end of %s's output:\n%s", p.Name, s.log)
		}
	})
	return s
}

// With prepares a server with the same address, data directory and arguments, but another binary at path. s must not
// run, and is not to be used again.
func (s *Server) With(tb testing.TB, path string) *Server {
	tb.Helper()
	p := s.prog
	p.Path = path
	next := New(tb, p, s.layout.DataDir, s.extra...)
	next.layout = s.layout
	return next
}

// Run is New and Start.
func Run(tb testing.TB, p Program, dataDir string, extra ...string) *Server {
	tb.Helper()
	s := New(tb, p, dataDir, extra...)
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	return s
}

// ErrNotRunning says that there is no process to act on.
var ErrNotRunning = errors.New("hw: server is not running")

// Endpoint is the client address, host:port; it stays the same over restarts.
func (s *Server) Endpoint() string { return strings.TrimPrefix(s.layout.ClientURL, "http://") }

// URL is the client address as a URL.
func (s *Server) URL() string { return s.layout.ClientURL }

// DataDir is the data directory.
func (s *Server) DataDir() string { return s.layout.DataDir }

// Output is the end of what all the server's processes have written.
func (s *Server) Output() string { return s.log.String() }

// Start starts a process and returns when it serves clients. Its error says why the process does not.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return fmt.Errorf("hw: %s is running already", s.prog.Name)
	}
	ready := make(chan struct{})
	s.log.watch(cmp.Or(s.prog.Ready, readyLine), ready)
	cmd := exec.Command(s.prog.Path, append(s.prog.Args(s.layout), s.extra...)...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Env = cleanEnv()
	if err := spawn.Start(cmd); err != nil {
		return fmt.Errorf("hw: %w", err)
	}
	exited := make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() {
		s.err = cmd.Wait()
		close(exited)
	}()
	timeout := time.NewTimer(readyTimeout)
	defer timeout.Stop()
	select {
	case <-ready:
		return nil
	case <-exited:
		s.cmd = nil
		return fmt.Errorf("hw: %s ended before it was ready: %w\n%s", s.prog.Name, s.err, s.log)
	case <-timeout.C:
		return errors.Join(fmt.Errorf("hw: %s is not ready after %v\n%s", s.prog.Name, readyTimeout, s.log),
			s.end(syscall.SIGKILL))
	}
}

// Kill ends the process with SIGKILL and returns when it is gone. A process that had ended before by itself is an
// error.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end(syscall.SIGKILL)
}

// Stop ends the process with SIGTERM and returns when it is gone. It is an error if that takes longer than StopTimeout
// (the process is then killed), or if the exit status is not 0. etcd ends by the signal itself, which is no error.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.end(syscall.SIGTERM); err != nil {
		return err
	}
	var exit *exec.ExitError
	if errors.As(s.err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGTERM {
			return nil
		}
	}
	if s.err != nil {
		return fmt.Errorf("hw: %s stopped with %w\n%s", s.prog.Name, s.err, s.log)
	}
	return nil
}

// Wait returns the exit code of a process that ends by itself, -1 if a signal ends it. It is an error if that takes
// longer than patience.
func (s *Server) Wait(patience time.Duration) (code int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0, ErrNotRunning
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-s.exited:
		code = s.cmd.ProcessState.ExitCode()
		s.cmd = nil
		return code, nil
	case <-timeout.C:
		return 0, fmt.Errorf("hw: %s has not ended after %v\n%s", s.prog.Name, patience, s.log)
	}
}

// Pause stops the process's execution until Resume.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return ErrNotRunning
	}
	return s.cmd.Process.Signal(sig)
}

// end sends sig and waits for the process to go; s.mu is held.
func (s *Server) end(sig syscall.Signal) error {
	if s.cmd == nil {
		return ErrNotRunning
	}
	cmd := s.cmd
	s.cmd = nil
	select {
	case <-s.exited:
		return fmt.Errorf("hw: %s had ended before it was stopped: %w\n%s", s.prog.Name, s.err, s.log)
	default:
	}
	if err := cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("hw: %w", err)
	}
	timeout := time.NewTimer(StopTimeout)
	defer timeout.Stop()
	select {
	case <-s.exited:
		return nil
	case <-timeout.C:
		err := fmt.Errorf("hw: %s still exists %v after %v\n%s", s.prog.Name, StopTimeout, sig, s.log)
		if killErr := cmd.Process.Kill(); killErr != nil {
			return errors.Join(err, killErr)
		}
		<-s.exited
		return err
	}
}

// cleanEnv is the environment without variables that configure a server.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ETCD_") && !strings.HasPrefix(kv, "HEADWATER_") {
			env = append(env, kv)
		}
	}
	return env
}

// tail keeps the end of a process's output, and signals when a text appears in it.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	scan int // offset in buf of what has not been searched for want yet
	want []byte
	seen chan struct{}
}

// watch closes seen when a line with text is written from now on.
func (t *tail) watch(text string, seen chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want, t.seen, t.scan = []byte(text), seen, len(t.buf)
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if t.seen != nil && bytes.Contains(t.buf[t.scan:], t.want) {
		close(t.seen)
		t.seen = nil
	}
	if n := bytes.LastIndexByte(t.buf, '\n') + 1; n > t.scan {
		t.scan = n
	}
	if cut := len(t.buf) - logTailMaxBytes; cut > 0 {
		t.buf = append(t.buf[:0], t.buf[cut:]...)
		t.scan = max(0, t.scan-cut)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
