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

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

var sutName = flag.String("sut", "headwater", "server under test: headwater or etcd")

// testTimeout bounds the requests of one test, on a busy machine too.
const testTimeout = 2 * time.Minute

func TestMain(m *testing.M) {
	before := goleak.IgnoreCurrent()
	code := m.Run()
	hw.Cleanup()
	if ctl.dir != "" {
		os.RemoveAll(ctl.dir)
	}
	if code == 0 {
		if err := goleak.Find(before); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// program is the server under test.
func program(t *testing.T) hw.Program {
	t.Helper()
	if *sutName == "etcd" {
		return hw.Etcd(t)
	}
	return hw.Headwater(t)
}

// start runs a fresh server.
func start(t *testing.T, args ...string) *hw.Server {
	t.Helper()
	return hw.Run(t, program(t), t.TempDir(), args...)
}

// client returns a clientv3 client of the server.
func client(t *testing.T, s *hw.Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.URL()}, Logger: zap.NewNop()})
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
			t.Fatalf("waited in vain: %s", what)
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
