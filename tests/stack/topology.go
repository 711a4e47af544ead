package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"
)

const flagKeyspace = "--keyspace="

// define makes all processes, and starts none.
func (s *Stack) define() {
	s.fdb = s.process(KindFDB, KindFDB, s.cfg.FoundationDB.Server, s.fdbListens,
		"--public-address="+s.address(portFDB), "--listen-address=public",
		"--cluster-file="+s.clusterFile(), "--datadir="+s.path("fdb"), "--logdir="+s.path("logs"),
	)
	s.process(KindNATS, KindNATS, s.cfg.Programs.NATS, answers("http://"+s.address(portNATSMonitor)+"/healthz"),
		"--name=headwater", "--addr=127.0.0.1", fmt.Sprintf("--port=%d", s.cfg.BasePort+portNATS),
		fmt.Sprintf("--http_port=%d", s.cfg.BasePort+portNATSMonitor),
	)
	for k, kind := range PodKinds {
		for i := range podsPerKind {
			client, metrics := s.podPorts(k, i)
			s.definePod(kind, i, client, metrics)
		}
	}
	if s.cfg.NoRouter {
		return
	}
	path, args := routerCommand(s.cfg.Nginx, s.cfg.Dir)
	s.process(KindRouter, KindRouter, path, answers("http://"+s.HTTPEndpoint()+"/health"), args...)
}

// process adds a process.
func (s *Stack) process(kind, name, path string, ready func(context.Context) error, args ...string) *Process {
	p := &Process{Name: name, Kind: kind, Log: s.path("logs", name+".log"), path: path, args: args, ready: ready}
	s.all = append(s.all, p)
	return p
}

// podPorts returns the ports of pod i (from 0) of kind k.
func (s *Stack) podPorts(k, i int) (client, metrics string) {
	n := portPods + 2*(k*podsPerKind+i)
	return s.address(n), s.address(n + 1)
}

// definePod adds a pod with the flags that docker-compose.yml gives it.
func (s *Stack) definePod(kind string, i int, client, metrics string) {
	name := fmt.Sprintf("%s-%d", kind, i+1)
	args := []string{
		"--name=" + name,
		"--listen-client-urls=http://" + client,
		"--listen-metrics-urls=http://" + metrics,
		"--advertise-client-urls=http://" + s.Endpoint(),
		"--pod-address=" + client,
		"--store=foundationdb",
		"--fdb-cluster-file=" + s.clusterFile(),
		"--nats-url=nats://" + s.address(portNATS),
		flagKeyspace + s.cfg.Keyspace,
	}
	for k, other := range PodKinds {
		if other == kind {
			continue
		}
		var list []string
		for j := range podsPerKind {
			client, _ := s.podPorts(k, j)
			list = append(list, client)
		}
		args = append(args, "--"+other+"-endpoints="+strings.Join(list, ","))
	}
	if kind == "watchhub" {
		args = append(args, "--data-dir="+s.path(name))
	}
	args = append(args, s.cfg.PodArgs[kind]...)
	admin := ""
	if s.cfg.Admin {
		admin = "unix://" + s.path(name+".sock")
		args = append(args, "--listen-admin-urls="+admin)
	}
	p := s.process(kind, name, s.cfg.Programs.Pods[kind], answers("http://"+metrics+"/readyz"), args...)
	p.Address, p.Metrics, p.Admin = client, metrics, admin
}

func (s *Stack) address(offset int) string { return fmt.Sprintf("127.0.0.1:%d", s.cfg.BasePort+offset) }

// probeTimeout bounds one check of whether a process is ready.
const probeTimeout = 5 * time.Second

// answers returns a check that a URL answers with code 200.
func answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s answers %s: %s", url, resp.Status, strings.TrimSpace(string(body)))
		}
		return err
	}
}

func (s *Stack) clusterFile() string { return s.path("fdb.cluster") }

// cli runs one fdbcli command.
func (s *Stack) cli(ctx context.Context, command string) (string, error) {
	out, err := exec.CommandContext(ctx, s.cfg.FoundationDB.CLI, "-C", s.clusterFile(), "--no-status", "--timeout",
		"30", "--exec", command).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("fdbcli %q: %w: %s", command, err, out)
	}
	return string(out), nil
}

// fdbListens checks that the process listens. fdbcli would wait for a database, and at first there is none.
func (s *Stack) fdbListens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.address(portFDB))
	if err != nil {
		return err
	}
	return c.Close()
}

// configure makes the database if there is none, and waits until it is available.
func (s *Stack) configure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if out, err := s.cli(ctx, "configure new single ssd"); err != nil && !strings.Contains(out, "already exists") {
		return err
	}
	for {
		out, err := s.cli(ctx, "status minimal")
		if err == nil && strings.Contains(out, "is available") {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("stack: the database is not available: %w", errors.Join(err, ctx.Err()))
		}
	}
}
