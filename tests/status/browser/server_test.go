package browser

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait.
const patience = 2 * time.Minute

// server is a process of the built server.
type server struct {
	t           *testing.T
	url, status string
	ctl, socket string
}

// text is the output of a process.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// build builds a program of the workspace.
func build(t *testing.T, pkg, out string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), out)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, pkg)
	cmd.Dir, cmd.Env = "../../..", append(os.Environ(), "GOWORK=", "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return path
}

var (
	servesClients = regexp.MustCompile(`"traffic":"[^"]*","address":"([^"]*)"`)
	servesStatus  = regexp.MustCompile(`"serving the status page","urls":\["http://([^"]*)"`)
)

// start starts a server.
func start(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	out := &text{}
	cmd := exec.Command(build(t, "./services/standalone", "headwater"), "--data-dir", dir, "--listen-client-urls",
		"http://127.0.0.1:0", "--listen-status-urls", "http://127.0.0.1:0", "--disk-reserve-bytes", "-1")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &server{
		t: t, ctl: build(t, "./services/headwaterctl", "headwaterctl"), socket: filepath.Join(dir, "admin.sock"),
	}
	for end := time.Now().Add(patience); ; {
		client, status := servesClients.FindStringSubmatch(out.String()), servesStatus.FindStringSubmatch(out.String())
		if client != nil && status != nil {
			s.url, s.status = "http://"+client[1], "http://"+status[1]+"/status/"
			return s
		}
		if time.Now().After(end) {
			t.Fatal("does not serve: ", out)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at its output
	}
}

// call calls the JSON gateway for a keyspace.
func (s *server) call(keyspace, path string, body map[string]any) {
	s.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(b))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Grpc-Metadata-headwater-keyspace", keyspace)
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer w.Body.Close()
	if a, _ := io.ReadAll(w.Body); w.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s", path, a)
	}
}

func (s *server) put(keyspace, key, value string) {
	s.t.Helper()
	e := base64.StdEncoding.EncodeToString
	s.call(keyspace, "/v3/kv/put", map[string]any{"key": e([]byte(key)), "value": e([]byte(value))})
}

// create creates a keyspace.
func (s *server) create(name string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), s.ctl, "--endpoints", s.socket, "keyspace", "create", name)
	b, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatal(err, string(b))
	}
}

// fill writes what the pages show: keys as a Kubernetes cluster has them, and hostile keys.
func (s *server) fill() {
	s.t.Helper()
	for i := range 120 {
		key := fmt.Sprintf("/registry/pods/team-%d/web-%03d", i%4, i)
		s.put("", key, fmt.Sprintf(`{"kind":"Pod","node":"n%d"}`, i%7))
	}
	for _, k := range hostile {
		s.put("", k, k)
	}
	for v := range 4 {
		s.put("", "/registry/leases/leader", fmt.Sprintf(`{"holder":"node-%d","transitions":%d}`, v%3, v))
	}
}

// hostile are keys that try to run as scripts.
var hostile = []string{
	"<script>document.title='broken'</script>", `"><img src=x onerror="document.title='broken'">`,
	"';document.title='broken';'", "\x00\xff\u202ebinary", strings.Repeat("<b>", 300),
}
