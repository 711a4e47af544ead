package pods

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBinary: the output and the exit code of a pod's program without FoundationDB. The kinds differ by one word.
func TestBinary(t *testing.T) {
	program := filepath.Join(t.TempDir(), "headwater-kv")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program,
		"github.com/headwaterdb/headwater/services/kv")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := func(code int, want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = []string{
			"HEADWATER_WATCHHUB_ENDPOINTS=127.0.0.1:1", "ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:0",
			"HEADWATER_LOG_LEVEL=error",
		}
		out, err := cmd.CombinedOutput()
		got := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			got = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != code || !strings.Contains(string(out), want) || code != 0 && strings.Count(string(out), "\n") != 1 {
			t.Errorf("%q ends with %d and says %s", args, got, out)
		}
	}
	run(0, "etcd Version: 3.7", "--version")
	run(0, "headwater-kv [flags]", "--help")
	run(2, "headwater-kv: unknown flag --no-such-flag (see headwater-kv --help)", "--no-such-flag")
	run(2, "headwater-kv: --leasekeeper-endpoints must not be empty")
	run(2, "headwater-kv: --keyspace must not be empty", "--leasekeeper-endpoints=127.0.0.1:1", "--keyspace=")
	run(1, "headwater-kv: --store=foundationdb: this binary was built without FoundationDB's client",
		"--leasekeeper-endpoints=127.0.0.1:1")
}
