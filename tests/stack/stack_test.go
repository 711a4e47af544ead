package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/config"
)

// TestPods parses the pods' command lines with their own parsers, and checks that their addresses agree with each other
// and with the router's.
func TestPods(t *testing.T) {
	s := &Stack{cfg: Config{Dir: "/stack", Port: 2379, BasePort: 23790, Keyspace: "default"}}
	s.define()
	listening := map[string]string{} // name of the pod by address
	for _, kind := range PodKinds {
		for _, p := range s.Processes(kind) {
			parsed, err := config.Kind(kind).Parse(p.args, nil)
			if err != nil || len(parsed.Ignored) > 0 || len(parsed.Warnings) > 0 {
				t.Fatalf("%s: %v %v %v", p.Name, err, parsed.Ignored, parsed.Warnings)
			}
			conf := parsed.Config
			for _, u := range append(slices.Clone(conf.ListenClientURLs), conf.ListenMetricsURLs...) {
				if other, taken := listening[u]; taken {
					t.Errorf("%s and %s both listen on %s", p.Name, other, u)
				}
				listening[u] = p.Name
			}
			if conf.ListenClientURLs[0] != "http://"+conf.PodAddress {
				t.Errorf("%s listens on %v, and says %s", p.Name, conf.ListenClientURLs, conf.PodAddress)
			}
		}
	}
	for _, kind := range PodKinds {
		for _, p := range s.Processes(kind) {
			for _, a := range p.args {
				name, list, _ := strings.Cut(a, "=")
				if other, ok := strings.CutSuffix(strings.TrimPrefix(name, "--"), "-endpoints"); ok {
					for address := range strings.SplitSeq(list, ",") {
						if !strings.HasPrefix(listening["http://"+address], other+"-") {
							t.Errorf("%s looks for a %s at %s", p.Name, other, address)
						}
					}
				}
			}
		}
	}
	for name, address := range s.routerValues() {
		kind, _, pod := strings.Cut(name, "_")
		if want := strings.ToLower(strings.ReplaceAll(name, "_", "-")); pod &&
			slices.Contains(PodKinds, strings.ToLower(kind)) && listening["http://"+address] != want {
			t.Errorf("the router has %s for %s", address, want)
		}
	}
	s.UseKeyspace("other")
	if p := s.Processes("kv")[1]; !slices.Contains(p.args, "--keyspace=other") {
		t.Errorf("%v", p.args)
	}
}

// script is a process that runs a shell script and is ready when it has written a line.
func script(t *testing.T, text string) *Process {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p := &Process{
		Name: "script", Log: log, path: "/bin/sh", args: []string{"-c", text},
		ready: func(context.Context) error {
			if out, err := os.ReadFile(log); err != nil || !strings.HasSuffix(string(out), "ready\n") {
				return fmt.Errorf("it has written %q (%v)", out, err)
			}
			return nil
		},
	}
	t.Cleanup(func() { _ = p.Kill() }) // it may have ended
	return p
}

// TestProcess starts a process, pauses it, kills it and starts it again.
func TestProcess(t *testing.T) {
	p := script(t, "echo ready; exec sleep 1000")
	if err := p.Kill(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("kill of a process that was never started: %v", err)
	}
	for range 2 {
		if err := p.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Start(t.Context()); err == nil {
			t.Error("started twice")
		}
		if closed(p.Exited()) {
			t.Error("it ended without being stopped")
		}
		if err := errors.Join(p.Pause(), p.Resume(), p.Kill()); err != nil {
			t.Error(err)
		}
		if !closed(p.Exited()) {
			t.Error("not gone after Kill")
		}
	}
	if err := errors.Join(p.Start(t.Context()), p.Stop()); err != nil {
		t.Error(err)
	}
	if err := p.Pause(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("pause of a process that has ended: %v", err)
	}
}

// TestNotReady checks that the error of Start says why it failed.
func TestNotReady(t *testing.T) {
	p := script(t, "exit 3")
	if err := p.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 3") ||
		!strings.Contains(err.Error(), p.Log) {
		t.Errorf("a process that ends: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p = script(t, "echo almost; exec sleep 1000")
	look := p.ready
	p.ready = func(ctx context.Context) error {
		err := look(ctx)
		if err != nil && strings.Contains(err.Error(), "almost") {
			cancel()
		}
		return err
	}
	if err := p.Start(ctx); err == nil || !strings.Contains(err.Error(), "almost") {
		t.Errorf("a process that never answers: %v", err)
	}
	if !closed(p.Exited()) {
		t.Error("the process is still running")
	}
	if err := p.Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a start after the end: %v", err)
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	if err := answers(srv.URL)(t.Context()); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a server that answers 404: %v", err)
	}
}

// TestFind checks that the error names everything that is missing.
func TestFind(t *testing.T) {
	home := t.TempDir()
	_, err := FindFoundationDB(home)
	for _, name := range []string{"libfdb_c.so", "fdb_c.h"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	for _, name := range []string{"bin/fdbserver", "bin/fdbcli", "lib/libfdb_c.so", "include/foundationdb/fdb_c.h"} {
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	f, err := FindFoundationDB(home)
	if err != nil || f.Lib != filepath.Join(home, "lib") || f.Include != filepath.Join(home, "include") ||
		f.CLI != filepath.Join(home, "bin/fdbcli") {
		t.Errorf("%+v %v", f, err)
	}
}

// TestStack starts the whole stack, if FoundationDB and nginx are there, and uses it.
func TestStack(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED the stack: -short")
	}
	if _, err := FindFoundationDB(os.Getenv(HomeEnv)); err != nil {
		t.Skipf("SKIPPED the stack: FoundationDB is not here:\n%v", err)
	}
	if _, err := FindNginx(); err != nil {
		t.Skipf("SKIPPED the stack: %v", err)
	}
	// Take ports below those that the kernel assigns to connections, so that no connection has one of them.
	cfg, err := Flags("stack", 0, []string{
		"--dir=" + t.TempDir(), "--port=23690", "--base-port=23700", "--router-config=" + routerTemplate,
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), readyTimeout)
	defer cancel()
	watch := c.Watch(ctx, "k", clientv3.WithCreatedNotify())
	if resp := <-watch; !resp.Created {
		t.Fatalf("%+v %v", resp, resp.Err())
	}
	grant, err := c.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	put, err := c.Put(ctx, "k", "v", clientv3.WithLease(grant.ID))
	if err != nil {
		t.Fatal(err)
	}
	if resp := <-watch; len(resp.Events) != 1 || resp.Events[0].Kv.ModRevision != put.Header.Revision {
		t.Errorf("put at %d, watched %+v %v", put.Header.Revision, resp, resp.Err())
	}
	if _, err := c.KeepAliveOnce(ctx, grant.ID); err != nil {
		t.Error(err)
	}
}
