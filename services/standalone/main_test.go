package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// program is the path of the binary under test, built by TestMain.
var program string

// patience bounds every wait; a loaded machine is slow.
const patience = 2 * time.Minute

// storeDir is the engine's directory within the data directory.
const storeDir = "store"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "headwater-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "headwater")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	code := 1
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the binary:", err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// output collects what a process writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// process is a running server.
type process struct {
	cmd    *exec.Cmd
	out    *output
	exited chan struct{} // closed when the process has ended
	url    string        // where clients are served
}

// command prepares the program with an environment of its own.
func command(env []string, args ...string) (*exec.Cmd, *output) {
	cmd := exec.Command(program, args...)
	cmd.Env = append([]string{"HOME=/nonexistent"}, env...)
	out := &output{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

var servingURL = regexp.MustCompile(`"msg":"serving client traffic insecurely[^\n]*"url":"(http:[^"]+)"`)

// start starts a server on a free port and waits until it serves.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	cmd, out := command(nil, append([]string{"--data-dir", dir, "--listen-client-urls", "http://127.0.0.1:0"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, out: out, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // its state is read from cmd.ProcessState
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("output of the server:\n%s", out)
		}
	})
	eventually(t, "serving", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("the server ended: %s", out)
		default:
		}
		m := servingURL.FindStringSubmatch(out.String())
		if m == nil {
			return false
		}
		p.url = m[1]
		return true
	})
	return p
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not %s in time", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stop sends a signal and returns the exit code.
func (p *process) stop(t *testing.T, sig os.Signal) int {
	t.Helper()
	// A server that was told to stop before may be gone already.
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatal("the server does not stop")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) client(t *testing.T) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{p.url}, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// fails runs the program to its end and expects an exit code and one line that contains want.
func fails(t *testing.T, env []string, code int, want string, args ...string) {
	t.Helper()
	cmd, out := command(env, args...)
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	overdue := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }) // it serves
	defer overdue.Stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("ended with %v, want code %d: %s", err, code, out)
	}
	var lines []string // those that are not log lines
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "{") {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "headwater: ") || !strings.Contains(lines[0], want) {
		t.Errorf("want one line with %q, got %q", want, lines)
	}
}

func put(t *testing.T, c *clientv3.Client, key, value string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.Put(ctx, key, value)
	return err
}

func get(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := c.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

const versionLines = `^etcd Version: 3\.7\.\d+\nGit SHA: .+\nGo Version: go.+\nGo OS/Arch: .+/.+\nheadwater Version: \d+\.\d+\.\d+\n$`

func TestVersionAndHelp(t *testing.T) {
	for arg, want := range map[string]string{
		"--version": versionLines, "version": versionLines,
		"--help": `(?s)^Usage:.*--listen-client-urls.*`,
		"-h":     `(?s)^Usage:.*--data-dir.*`,
	} {
		cmd, out := command(nil, arg)
		if err := cmd.Run(); err != nil {
			t.Error(arg, err)
		}
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%s prints %q", arg, out)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	t.Chdir(t.TempDir()) // where a server that starts nevertheless has its data
	fails(t, nil, 2, "unknown flag --no-such-flag", "--no-such-flag")
	fails(t, nil, 2, `invalid value "many" for --max-txn-ops`, "--max-txn-ops=many")
	fails(t, nil, 2, "--cert-file, --key-file: KeyFile and CertFile must both be present", "--cert-file", "x")
	fails(t, nil, 2, "--cert-file, --key-file", "--listen-client-urls", "https://127.0.0.1:0")
	fails(t, []string{"ETCD_MAX_REQUEST_BYTES=1MB"}, 2, `invalid value "1MB" for ETCD_MAX_REQUEST_BYTES`)
	fails(t, []string{"HEADWATER_TLS_MIN_VERSION=TLS9"}, 2, "--tls-min-version")
}

func TestStartFailures(t *testing.T) {
	dir := t.TempDir()
	p := start(t, filepath.Join(dir, "first"))
	free := []string{"--listen-client-urls", "http://127.0.0.1:0", "--data-dir"}

	t.Run("taken port", func(t *testing.T) {
		fails(t, nil, 1, "cannot listen on "+p.url+": address already in use", "--listen-client-urls", p.url, "--data-dir", filepath.Join(dir, "second"))
		if _, err := os.Stat(filepath.Join(dir, "second")); !errors.Is(err, os.ErrNotExist) {
			t.Error("a data directory was made", err)
		}
	})
	t.Run("same data directory", func(t *testing.T) {
		fails(t, nil, 1, "in use by another process", append(free, filepath.Join(dir, "first"))...)
	})
	t.Run("data directory of an etcd", func(t *testing.T) {
		etcd := filepath.Join(dir, "etcd")
		if err := os.MkdirAll(filepath.Join(etcd, "member"), 0o700); err != nil {
			t.Fatal(err)
		}
		fails(t, nil, 1, "holds the data of an etcd", append(free, etcd)...)
		if entries, err := os.ReadDir(etcd); err != nil || len(entries) != 1 {
			t.Error("the directory was changed", entries, err)
		}
	})
	t.Run("unwritable", func(t *testing.T) {
		if os.Getuid() != 0 {
			ro := filepath.Join(dir, "ro")
			if err := os.Mkdir(ro, 0o500); err != nil {
				t.Fatal(err)
			}
			fails(t, nil, 1, "permission denied", append(free, ro)...)
		}
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fails(t, nil, 1, "not a directory", append(free, file)...)
	})
	if put(t, p.client(t), "k", "v") != nil {
		t.Error("the first server has been disturbed")
	}
}

// TestCorruptFile: a store whose manifest is damaged is not opened, and nothing is made anew in its place.
func TestCorruptFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	p := start(t, dir)
	c := p.client(t)
	for i := range 100 {
		if err := put(t, c, fmt.Sprintf("k%02d", i), strings.Repeat("v", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	manifests, err := filepath.Glob(filepath.Join(dir, storeDir, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatal(manifests, err)
	}
	for _, m := range manifests {
		if err := os.WriteFile(m, []byte("this is no manifest"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fails(t, nil, 1, "corrupt", "--listen-client-urls", "http://127.0.0.1:0", "--data-dir", dir)
}

// TestStopWithWatchers: SIGTERM with watchers and keep-alives attached, which never end by themselves, ends cleanly.
func TestStopWithWatchers(t *testing.T) {
	p := start(t, filepath.Join(t.TempDir(), "d"))
	c := p.client(t)
	lease, err := c.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeepAlive(t.Context(), lease.ID); err != nil {
		t.Fatal(err)
	}
	var watches []clientv3.WatchChan
	for i := range 20 {
		watches = append(watches, c.Watch(t.Context(), fmt.Sprintf("k%d", i%2), clientv3.WithCreatedNotify()))
	}
	for _, w := range watches {
		if r := <-w; !r.Created {
			t.Fatal(r, r.Err())
		}
	}
	if err := put(t, c, "k0", "v"); err != nil {
		t.Fatal(err)
	}
	for i, w := range watches {
		if i%2 == 0 {
			if r := <-w; len(r.Events) != 1 {
				t.Fatal(r, r.Err())
			}
		}
	}
	if code := p.stop(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	// A busy machine may leave what it has not written out to the next start.
	out := p.out.String()
	if !strings.Contains(out, `"msg":"stopped"`) && !strings.Contains(out, "takes long to close") {
		t.Error("no clean end in the log")
	}
}

// TestSecondSignal: the second SIGINT does not wait for anything.
func TestSecondSignal(t *testing.T) {
	p := start(t, filepath.Join(t.TempDir(), "d"))
	c := p.client(t)
	lease, err := c.Grant(t.Context(), 600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeepAlive(t.Context(), lease.ID); err != nil { // holds up a graceful stop
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stopping", func() bool { return strings.Contains(p.out.String(), "new connections are refused") })
	p.stop(t, os.Interrupt)
	if st, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() && st.ExitStatus() != 0 {
		t.Errorf("ended with %v", p.cmd.ProcessState)
	}
}

// TestKill: what was acknowledged is there after kill -9, ids stay the same, and so does the revision.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	p := start(t, dir, "--name", "one")
	c := p.client(t)
	const keys = 50
	for i := range keys {
		if err := put(t, c, fmt.Sprintf("k%d", i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := c.Get(t.Context(), "k0")
	if err != nil {
		t.Fatal(err)
	}
	p.stop(t, syscall.SIGKILL)

	p = start(t, dir, "--name", "one")
	c = p.client(t)
	after, err := c.Get(t.Context(), "k0")
	if err != nil {
		t.Fatal(err)
	}
	if before.Header.String() != after.Header.String() {
		t.Errorf("header before %v, after %v", before.Header, after.Header)
	}
	for i := range keys {
		if got := get(t, c, fmt.Sprintf("k%d", i)); got != fmt.Sprint(i) {
			t.Errorf("k%d is %q", i, got)
		}
	}
	members, err := c.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := members.Members[0]
	if len(members.Members) != 1 || m.Name != "one" || m.ID != after.Header.MemberId || m.ClientURLs[0] != p.url {
		t.Errorf("members %v", members.Members)
	}
}

// TestAllServicesAreThere asks one thing of each service, and HTTP on the same port.
func TestAllServicesAreThere(t *testing.T) {
	p := start(t, filepath.Join(t.TempDir(), "d"), "--auto-compaction-retention=1h", "--quota-backend-bytes=1073741824")
	c := p.client(t)
	st, err := c.Status(t.Context(), p.url)
	if err != nil || st.Version != "3.7.3" || st.Leader != st.Header.MemberId || st.DbSizeQuota != 1<<30 {
		t.Error(st, err)
	}
	if st.DbSize < max(st.DbSizeInUse, 1<<10) { // of a fresh store's files one is larger
		t.Errorf("%d bytes, %d in use", st.DbSize, st.DbSizeInUse)
	}
	if _, err := c.AlarmList(t.Context()); err != nil {
		t.Error(err)
	}
	if h, err := c.HashKV(t.Context(), p.url, 0); err != nil || h.HashRevision != 1 {
		t.Error(h, err)
	}
	if _, err := c.AuthStatus(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := c.Leases(t.Context()); err != nil {
		t.Error(err)
	}
	for path, code := range map[string]int{"/health": 200, "/livez": 200, "/readyz?verbose": 200, "/version": 200, "/metrics": 200, "/v3/kv/put": 501, "/x": 404} {
		resp, err := http.Get(p.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != code {
			t.Errorf("%s: %s, %v", path, resp.Status, err)
		}
		if want := `headwater_watch_catch_up_passes_total{source="log"}`; path == "/metrics" && !strings.Contains(string(body), want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if n := strings.Count(p.out.String(), `"msg":"ready to serve client requests"`); n != 1 {
		t.Errorf("%d ready lines", n)
	}
}

// TestEnvironment: settings come from variables too, and flags of etcd that mean nothing are named in one warning.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	cmd, out := command([]string{
		"ETCD_DATA_DIR=" + filepath.Join(dir, "d"), "ETCD_NAME=from-etcd", "HEADWATER_NAME=own", "ETCD_SNAPSHOT_COUNT=5",
		"HEADWATER_LISTEN_CLIENT_URLS=unix://" + filepath.Join(dir, "sock"), "ETCD_NO_SUCH=1",
	}, "--initial-cluster", "a=b", "--pre-vote")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err, out)
		}
	}()
	eventually(t, "serving", func() bool { return strings.Contains(out.String(), "serving client traffic") })
	for _, want := range []string{
		`"msg":"accepted without effect: --initial-cluster --pre-vote ETCD_SNAPSHOT_COUNT"`,
		`"msg":"unrecognized environment variables: ETCD_NO_SUCH"`,
		`"name":"own"`,
	} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("no %s in %s", want, out)
		}
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(dir, "sock")}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := put(t, c, "k", "v"); err != nil {
		t.Error(err)
	}
}

// TestAutoCompaction: old revisions go by themselves.
func TestAutoCompaction(t *testing.T) {
	p := start(t, filepath.Join(t.TempDir(), "d"), "--auto-compaction-retention=100ms")
	c := p.client(t)
	for range 10 {
		if err := put(t, c, "k", "v"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "compacted", func() bool {
		_, err := c.Get(t.Context(), "k", clientv3.WithRev(2))
		return errors.Is(err, rpctypes.ErrCompacted)
	})
	if got := get(t, c, "k"); got != "v" {
		t.Errorf("k is %q", got)
	}
}
