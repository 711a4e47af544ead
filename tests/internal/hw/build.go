package hw

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/headwaterdb/headwater/tests/internal/spawn"
)

// BinaryEnv is the name of the environment variable with the path of a ready headwater binary.
const BinaryEnv = "HEADWATER_BINARY"

const (
	headwaterPackage = "github.com/headwaterdb/headwater/services/standalone"
	etcdPackage      = "go.etcd.io/etcd/server/v3"
	natsPackage      = "github.com/nats-io/nats-server/v2"
)

// Program is a server binary and the command line that makes it serve a Layout.
type Program struct {
	Name string
	Path string
	Args func(Layout) []string
	// Ready is a text that the server writes when it serves; "" stands for the line that etcd writes.
	Ready string
}

// Layout is where a server keeps its data and listens.
type Layout struct {
	DataDir   string
	ClientURL string // http://127.0.0.1:port
	PeerURL   string // only etcd uses it
}

// Headwater builds headwater from this tree, once per test process.
func Headwater(tb testing.TB) Program {
	tb.Helper()
	path := os.Getenv(BinaryEnv)
	if path == "" {
		path = build(tb, "headwater", headwaterPackage)
	}
	return Program{Name: "headwater", Path: path, Args: func(l Layout) []string {
		return []string{
			"--data-dir=" + l.DataDir,
			"--listen-client-urls=" + l.ClientURL,
			"--advertise-client-urls=" + l.ClientURL,
		}
	}}
}

// Etcd builds the etcd release that the tests module depends on, once per test process. It is set up as one member with
// a short election timeout, so that it serves soon after a restart, and keeps its whole WAL.
func Etcd(tb testing.TB) Program {
	tb.Helper()
	return Program{Name: "etcd", Path: build(tb, "etcd", etcdPackage), Args: func(l Layout) []string {
		return []string{
			"--name=default",
			"--data-dir=" + l.DataDir,
			"--listen-client-urls=" + l.ClientURL,
			"--advertise-client-urls=" + l.ClientURL,
			"--listen-peer-urls=" + l.PeerURL,
			"--initial-advertise-peer-urls=" + l.PeerURL,
			"--initial-cluster=default=" + l.PeerURL,
			"--heartbeat-interval=10",
			"--election-timeout=100",
			"--snapshot-count=1000000",
		}
	}}
}

// NATS builds the nats-server that the module graph names, once per test process. It keeps nothing on disk.
func NATS(tb testing.TB) Program {
	tb.Helper()
	return Program{
		Name: "nats-server", Path: build(tb, "nats-server", natsPackage), Ready: "Server is ready",
		Args: func(l Layout) []string {
			host, port, err := net.SplitHostPort(strings.TrimPrefix(l.ClientURL, "http://"))
			if err != nil {
				tb.Fatal(err)
			}
			return []string{"--addr=" + host, "--port=" + port}
		},
	}
}

// Build builds a program of the module graph, once per test process, under a name of its own.
func Build(tb testing.TB, name, pkg string) string {
	tb.Helper()
	return build(tb, name, pkg)
}

// built caches the results of build, failures included, so that every test that needs a failed build reports the same
// error.
var built struct {
	sync.Mutex
	dir  string
	errs map[string]error
}

func build(tb testing.TB, name, pkg string) string {
	tb.Helper()
	built.Lock()
	defer built.Unlock()
	if built.errs == nil {
		dir, err := os.MkdirTemp("", "headwater-bin-") //nolint:usetesting // outlives the test: shared until Cleanup
		if err != nil {
			tb.Fatal(err)
		}
		built.dir, built.errs = dir, map[string]error{}
	}
	path := filepath.Join(built.dir, name)
	err, done := built.errs[name]
	if !done {
		err = goBuild(path, pkg)
		built.errs[name] = err
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func goBuild(path, pkg string) error {
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// Cleanup removes the binaries that were built. Call it at the end of TestMain, when no test needs a server any more.
func Cleanup() {
	spawn.Stop()
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	built.dir, built.errs = "", nil
}
