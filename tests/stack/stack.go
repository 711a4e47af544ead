package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// PodKinds are the kinds of pods. KindFDB and the others are the kinds of the other processes.
var PodKinds = []string{"kv", "watchhub", "leasekeeper"}

// Kinds of processes that are no pods.
const (
	KindFDB    = "fdbserver"
	KindNATS   = "nats"
	KindRouter = "nginx"
)

// podsPerKind is how many pods of each kind there are. docker-compose.yml has as many, and deploy/nginx.conf.template
// has places for as many.
const podsPerKind = 2

// Config says what to start and where.
type Config struct {
	Dir  string // for data, logs and the cluster file; made if missing
	Port int    // of the router: all of etcd's gRPC services
	// BasePort is the first of PortsUsed ports for the other processes. The router serves HTTP/1 on the first.
	BasePort     int
	Keyspace     string // of the pods
	FoundationDB FoundationDB
	Programs     Programs
	Nginx        string    // path of nginx
	RouterConfig string    // path of deploy/nginx.conf.template
	NoRouter     bool      // start no router: clients go to pods
	Report       io.Writer // gets a line for each process that is ready; may be nil

	PodArgs map[string][]string // more flags, by kind
	Admin   bool                // pods serve the admin API, see Process.Admin; Dir must be short, for sockets are
}

// PortsUsed is how many ports from BasePort on may be used.
const PortsUsed = 40

// Offsets of ports from BasePort. A pod has two: clients and metrics.
const (
	portHTTP = iota // of the router
	portNATS
	portNATSMonitor
	portFDB
	portPods = 10
)

// Stack is a running stack.
type Stack struct {
	cfg Config
	fdb *Process
	all []*Process // in the order of starting
}

// Endpoint is the address for etcd clients.
func (s *Stack) Endpoint() string { return fmt.Sprintf("127.0.0.1:%d", s.cfg.Port) }

// HTTPEndpoint is the address of the router for /health, /version and /metrics.
func (s *Stack) HTTPEndpoint() string { return s.address(portHTTP) }

// Logs is the directory of the processes' logs.
func (s *Stack) Logs() string { return s.path("logs") }

// Processes returns all processes of a kind, or of all kinds if kind is "".
func (s *Stack) Processes(kind string) []*Process {
	var l []*Process
	for _, p := range s.all {
		if kind == "" || p.Kind == kind {
			l = append(l, p)
		}
	}
	return l
}

// Start starts everything and returns when a request gets through to FoundationDB. If it returns an error nothing is
// running.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	s := &Stack{cfg: cfg}
	if err := errors.Join(os.MkdirAll(filepath.Join(cfg.Dir, "logs"), 0o755),
		os.MkdirAll(s.path("fdb"), 0o755)); err != nil {
		return nil, err
	}
	if err := s.writeClusterFile(); err != nil {
		return nil, err
	}
	if !cfg.NoRouter {
		if err := s.writeRouterConfig(); err != nil {
			return nil, err
		}
	}
	s.define()
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// writeClusterFile writes FoundationDB's cluster file, if there is none. The file has the address under which the
// database in this directory is known.
func (s *Stack) writeClusterFile() error {
	want := "headwater:headwater@" + s.address(portFDB) + "\n"
	have, err := os.ReadFile(s.clusterFile())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.WriteFile(s.clusterFile(), []byte(want), 0o644)
	case err == nil && string(have) != want:
		return fmt.Errorf("stack: the database in %s is at %q: take the same base port, or another directory",
			s.cfg.Dir, have)
	}
	return err
}

func (s *Stack) start(ctx context.Context) error {
	if err := s.one(ctx, s.fdb); err != nil {
		return err
	}
	if err := s.configure(ctx); err != nil {
		return err
	}
	if err := s.one(ctx, s.Processes(KindNATS)[0]); err != nil {
		return err
	}
	if err := s.StartPods(ctx); err != nil {
		return err
	}
	for _, p := range s.Processes(KindRouter) {
		if err := s.one(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// StartPods starts all pods at the same time.
func (s *Stack) StartPods(ctx context.Context) error {
	return s.pods(func(p *Process) error { return s.one(ctx, p) })
}

// WaitRouted returns when requests get through the router to FoundationDB.
func (s *Stack) WaitRouted(ctx context.Context) error {
	return s.Processes(KindRouter)[0].waitReady(ctx)
}

// StopPods stops all pods at the same time.
func (s *Stack) StopPods() error { return s.pods((*Process).Stop) }

func (s *Stack) pods(f func(*Process) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, kind := range PodKinds {
		for _, p := range s.Processes(kind) {
			wg.Go(func() {
				if err := f(p); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Stack) one(ctx context.Context, p *Process) error {
	if err := p.Start(ctx); err != nil {
		return err
	}
	if s.cfg.Report != nil {
		fmt.Fprintf(s.cfg.Report, "%-14s is ready (%s)\n", p.Name, p.Log)
	}
	return nil
}

// UseKeyspace sets the keyspace of pods that are started from now on.
func (s *Stack) UseKeyspace(name string) {
	for _, kind := range PodKinds {
		for _, p := range s.Processes(kind) {
			p.mu.Lock()
			for i, a := range p.args {
				if strings.HasPrefix(a, flagKeyspace) {
					p.args[i] = flagKeyspace + name
				}
			}
			p.mu.Unlock()
		}
	}
}

// Stop stops everything, in the reverse order of the start. It stops the pods at the same time.
func (s *Stack) Stop() error {
	stop := func(kind string) (errs []error) {
		for _, p := range s.Processes(kind) {
			errs = append(errs, ignoreNotRunning(p.Stop()))
		}
		return errs
	}
	errs := stop(KindRouter)
	errs = append(errs, s.pods(func(p *Process) error { return ignoreNotRunning(p.Stop()) }))
	errs = append(errs, stop(KindNATS)...)
	errs = append(errs, stop(KindFDB)...)
	return errors.Join(errs...)
}

func ignoreNotRunning(err error) error {
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}

// path is a path in the stack's directory.
func (s *Stack) path(names ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, names...)...)
}
