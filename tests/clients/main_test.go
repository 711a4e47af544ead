package clients

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

var sutName = flag.String("sut", defaultSUT(),
	"server under test: headwater, keyspace (one among others in it), pods (the distributed form) or etcd")

// defaultSUT is the standalone server, or pods in a run on FoundationDB.
func defaultSUT() string {
	if testengine.Chosen() == testengine.FoundationDB {
		return "pods"
	}
	return "headwater"
}

// testTimeout bounds the requests of one test, on a busy machine too.
const testTimeout = 2 * time.Minute

func TestMain(m *testing.M) {
	pods.ServeChild()
	before := goleak.IgnoreCurrent()
	code := m.Run()
	hw.Cleanup()
	if ctl.dir != "" {
		os.RemoveAll(ctl.dir)
	}
	os.Exit(leaktest.Code(code, before, testengine.IgnoreThreads()))
}

// TestFoundationDB reports whether this run uses a FoundationDB cluster.
func TestFoundationDB(t *testing.T) { testengine.OnFoundationDB(t) }

// program is the server under test.
func program(t *testing.T) hw.Program {
	t.Helper()
	switch *sutName {
	case "headwater", "keyspace":
		return hw.Headwater(t)
	case "pods":
		return pods.NewProcess(t).Program
	case "etcd":
		return hw.Etcd(t)
	}
	t.Fatalf("unknown -sut %q", *sutName)
	return hw.Program{}
}

// server is the server under test as its clients see it.
type server struct {
	*hw.Server
	grpc string // the address for gRPC clients; revisions are dense there
}

// Endpoint is the host:port for clients of gRPC.
func (s *server) Endpoint() string { return s.grpc }

// start runs a fresh server.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{Server: hw.Run(t, program(t), t.TempDir(), args...)}
	switch s.grpc = s.Server.Endpoint(); *sutName {
	case "pods":
		s.grpc = count(t, s.grpc)
	case "keyspace":
		s.grpc = among(t, s.Server)
	}
	return s
}

// client returns a clientv3 client of the server.
func client(t *testing.T, s *server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// timeout returns a context that ends with the test or after testTimeout.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(testTimeout / 2); ; {
		if cond() {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting: %s", what)
		}
	}
}

// ctl is the etcdctl binary, built once.
var ctl struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// etcdctl returns the path of etcdctl.
func etcdctl(t *testing.T) string {
	t.Helper()
	ctl.once.Do(func() {
		if ctl.dir, ctl.err = os.MkdirTemp("", "etcdctl-"); ctl.err != nil { //nolint:usetesting // outlives the test
			return
		}
		ctl.path = filepath.Join(ctl.dir, "etcdctl")
		cmd := exec.Command("go", "build", "-o", ctl.path, "go.etcd.io/etcd/etcdctl/v3")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			ctl.err = fmt.Errorf("build etcdctl: %w\n%s", err, out)
		}
	})
	if ctl.err != nil {
		t.Fatal(ctl.err)
	}
	return ctl.path
}
