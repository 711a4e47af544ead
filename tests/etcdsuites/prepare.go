package etcdsuites

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Servers that a suite can run against, and the packages that they are built from.
const (
	Headwater = "headwater"
	Etcd      = "etcd"
)

var servers = map[string]string{
	Headwater: "github.com/headwaterdb/headwater/services/standalone", Etcd: "go.etcd.io/etcd/server/v3",
}

// Suites of etcd's tests module.
var Suites = []string{"e2e", "common"}

const testsModule = "go.etcd.io/etcd/tests/v3"

// change replaces a text in a file of the source. The text must be there.
type change struct{ file, from, to string }

var changes = []change{
	{"framework/e2e/cluster.go", "const EtcdProcessBasePort = 20000", `var EtcdProcessBasePort = func() int {
	n, _ := strconv.Atoi(os.Getenv("` + portVariable + `"))
	return n
}()`},
	{"framework/e2e/cluster.go", "\t\"path/filepath\"\n", "\t\"os\"\n\t\"path/filepath\"\n\t\"strconv\"\n"},
	{"framework/e2e/cluster.go", "\tSkipInShortMode(tb)\n", "\tSkipInShortMode(tb)\n\tcfg.ClusterSize = 1\n"},
	{"e2e/ctl_v3_test.go", "timeout := cx.getTestTimeout()", "timeout := 4 * cx.getTestTimeout()"},
}

// portVariable is the environment variable with the first port that clusters use.
const portVariable = "ETCD_TEST_BASE_PORT"

// Prepare builds all that a Bench needs in dir, for a server and a suite. It takes a minute or two, and needs the
// module's dependencies in the module cache, or the module proxy.
func Prepare(ctx context.Context, dir, server, suite string) error {
	source, err := command(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", testsModule)
	if err != nil {
		return err
	}
	copied := filepath.Join(dir, "src")
	if err := os.RemoveAll(copied); err != nil {
		return err
	}
	if err := copySource(strings.TrimSpace(source), copied); err != nil {
		return err
	}
	work, err := workspace(ctx, dir, copied)
	if err != nil {
		return err
	}
	bin := filepath.Join(dir, server)
	for out, pkg := range map[string]string{
		"etcd": servers[server], "etcdctl": "go.etcd.io/etcd/etcdctl/v3", "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
	} {
		if _, err := command(ctx, "", "go", "build", "-o", filepath.Join(bin, out), pkg); err != nil {
			return err
		}
	}
	out := filepath.Join(dir, suite+".test")
	_, err = command(ctx, "GOWORK="+work, "go", "test", "-c", "-tags", "e2e", "-o", out, testsModule+"/"+suite)
	return err
}

// copySource copies the module and makes the changes.
func copySource(from, to string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return err
	}
	writable := func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	}
	if err := filepath.WalkDir(to, writable); err != nil {
		return err
	}
	for _, c := range changes {
		path := filepath.Join(to, c.file)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		changed := strings.Replace(string(text), c.from, c.to, 1)
		if changed == string(text) {
			return fmt.Errorf("%s: no %q", path, c.from)
		}
		if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// workspace writes a go.work that uses the copy instead of the module.
func workspace(ctx context.Context, dir, copied string) (string, error) {
	own, err := command(ctx, "", "go", "env", "GOWORK")
	if err != nil {
		return "", err
	}
	own = strings.TrimSpace(own)
	text, err := os.ReadFile(own)
	if err != nil {
		return "", err
	}
	root := filepath.Dir(own)
	there := strings.ReplaceAll(string(text), "\t./", "\t"+root+"/")
	there += "\nreplace " + testsModule + " => " + copied + "\n"
	sums, err := os.ReadFile(own + ".sum")
	if err != nil {
		return "", err
	}
	work := filepath.Join(dir, "go.work")
	return work, errors.Join(
		os.WriteFile(work, []byte(there), 0o644), os.WriteFile(work+".sum", sums, 0o644),
	)
}

// command runs a program with an additional environment variable, and returns what it prints.
func command(ctx context.Context, env string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if env != "" {
		c.Env = append(c.Env, env)
	}
	out, err := c.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}
