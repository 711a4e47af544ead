package keyspaces

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/hw"
)

func TestMain(m *testing.M) {
	code := m.Run()
	hw.Cleanup()
	os.Exit(code)
}

// ctl runs headwaterctl on the admin API of a data directory.
type ctl struct {
	path string
	env  []string
	dir  string
}

// run runs headwaterctl and returns its outputs and its exit code.
func (c ctl) run(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.path, args...)
	cmd.Env, cmd.Dir = c.env, c.dir
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		t.Fatal(err)
	}
	return o.String(), e.String(), code
}

// ok runs headwaterctl, which must succeed.
func (c ctl) ok(t *testing.T, args ...string) string {
	t.Helper()
	out, errOut, code := c.run(t, args...)
	if code != 0 || errOut != "" {
		t.Fatalf("%v: exit code %d, %s", args, code, errOut)
	}
	return out
}

// TestCtl runs the built headwaterctl on a built server, which it kills and starts again in between.
func TestCtl(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data", "default.headwater") // where `make run` puts it, relative to dir
	s := hw.Run(t, hw.Headwater(t), data, "--keyspace-domain=etcd.test")
	path := hw.Build(t, "headwaterctl", "github.com/headwaterdb/headwater/services/headwaterctl")
	socket := filepath.Join(data, config.AdminSocket)
	c := ctl{path: path, dir: t.TempDir(), env: []string{"HEADWATERCTL_ENDPOINTS=127.0.0.1:1," + socket}}

	out := c.ok(t, "keyspace", "create", "team-a", "--limit", "bytes=2GiB", "--label", "owner=web")
	if !strings.Contains(out, "bytes=2147483648") {
		t.Errorf("created: %s", out)
	}
	c.ok(t, "keyspace", "set", "team-a", "--limit", "watches=10", "--limit", "bytes=0", "--unlabel", "owner")
	// headwaterctl uses the admin API, to which access rules do not apply.
	for flag, shown := range map[string]string{
		"--closed": "closed", "--allow=user=root": "user=root", "--open": "open",
	} {
		c.ok(t, "keyspace", "set", "default", flag)
		if out := c.ok(t, "keyspace", "show", "default"); !strings.Contains(out, shown) {
			t.Errorf("default with %s: %s", flag, out)
		}
		c.ok(t, "usage")
	}
	c.ok(t, "keyspace", "set", "default", "--open")
	for _, access := range []struct{ flags, shown string }{
		{"--allow=user=bob --allow=cn=ops", "cn=ops user=bob"},
		{"--allow=cn=a,b*,o=Good, Inc --allow=uri=spiffe://td/*", "cn=a,b*,o=Good, Inc uri=spiffe://td/*"},
		{"--closed", "closed"},
		{"--open", "open"},
	} {
		args := []string{"keyspace", "set", "team-a"}
		for _, flag := range strings.Split(access.flags, " --") {
			args = append(args, "--"+strings.TrimPrefix(flag, "--"))
		}
		c.ok(t, args...)
		if out := c.ok(t, "keyspace", "show", "team-a"); !strings.Contains(out, access.shown) {
			t.Errorf("%v: %s", args, out)
		}
	}
	for _, flags := range [][]string{
		{"--allow=cn=a,user=b"},
		{"--allow=user="},
		{"--allow=user=a", "--open"},
		{"--open", "--closed"},
		{"--allow=a"},
		{"--allow=cn="},
		{"--allow=cn=a,cn=b"},
		{"--allow=x=y"},
	} {
		if _, errOut, code := c.run(t, append([]string{"keyspace", "set", "team-a"}, flags...)...); code == 0 ||
			errOut == "" {
			t.Errorf("%v: exit code %d, %s", flags, code, errOut)
		}
	}
	c.ok(t, "keyspace", "rename", "team-a", "team-b")
	c.ok(t, "keyspace", "create", "team-c")
	c.ok(t, "keyspace", "delete", "team-c")
	var list struct {
		Keyspaces []struct {
			Name     string
			Settings struct {
				Limits map[string]string
				Labels map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(c.ok(t, "keyspace", "list", "-w", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if l := list.Keyspaces; len(l) != 2 || l[0].Name != "default" || l[1].Name != "team-b" ||
		l[1].Settings.Limits["watches"] != "10" || l[1].Settings.Limits["bytes"] != "0" ||
		len(l[1].Settings.Labels) != 0 {
		t.Errorf("list: %+v", l)
	}

	if err := s.Kill(); err != nil { // its socket stays
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	e, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.URL()}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithAuthority("team-b.etcd.test")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	for _, v := range []string{"v1", "v2"} {
		put(t, e, "k", v)
	}
	for _, wanted := range []struct {
		args []string
		has  string
	}{
		{[]string{"log", "tail", "-k", "team-b"}, "2 PUT    \"k\" = \"v1\" (version 1, create 2)\n3 PUT"},
		{[]string{"log", "show", "3", "-k", "team-b"}, `3 PUT    "k" = "v2" (version 2, create 2), was of revision 2`},
		{
			[]string{"log", "show", "3", "-k", "team-b", "-w", "fields"},
			"\"revision\" : 3\n\"type\" : \"PUT\"\n\"key\" : \"k\"\n",
		},
		{[]string{"rows", "-k", "team-b", "--table", "i"}, `key "k": mod 3, create 2, version 2, 2 bytes inline`},
		{[]string{"fsck", "-k", "team-b"}, "0 findings at revision 3 (in one state): 1 keys"},
		{[]string{"fsck"}, "0 findings at revision 1"},
		{[]string{"usage", "--sort-by", "keys", "-w", "fields"}, "\"name\" : \"team-b\"\n\"revision\" : 3\n"},
		{[]string{"pods"}, "standalone  default  "},
		{[]string{"pods", "-w", "fields"}, "\"state\" : \"ready\"\n"},
		{[]string{"elections", "-w", "json"}, `"elections":[]`},
		{[]string{"version", "-w", "fields"}, "\"kind\" : \"standalone\"\n\"name\" : \"default\"\n\"version\" : \"0.1.0\"\n"},
		{[]string{"__complete", "keyspace", "show", ""}, "default\nteam-b\n"},
		{[]string{"completion", "bash"}, "headwaterctl"},
	} {
		out, errOut, code := c.run(t, wanted.args...)
		if !strings.Contains(out, wanted.has) || code != 0 {
			t.Errorf("%v: %d, %s%s, want %s", wanted.args, code, out, errOut, wanted.has)
		}
	}
	wantExits(t, c)
	wantLargeEntry(t, c, e)
	c.ok(t, "keyspace", "set", "team-b", "--label", "note=one\n\x1b[2Jtwo")
	if out := c.ok(t, "keyspace", "list"); strings.Count(out, "\n") != 3 || strings.Contains(out, "\x1b") {
		t.Errorf("a label has left its line: %q", out)
	}
	wantLost(t, c)

	// Without --endpoints headwaterctl uses the socket of `make run`, if it exists.
	c.env, c.dir = nil, dir
	c.ok(t, "usage")
	c.dir = t.TempDir()
	if _, errOut, code := c.run(t, "usage"); code != 128 || !strings.Contains(errOut, "no endpoint") {
		t.Errorf("without endpoints: %d, %s", code, errOut)
	}
}

// wantExits checks that the exit codes are those of etcdctl.
func wantExits(t *testing.T, c ctl) {
	t.Helper()
	for _, wanted := range []struct {
		code int
		text string
		args []string
	}{
		{1, "no row in the table", []string{"keyspace", "delete", "default"}},
		{1, "not found", []string{"keyspace", "show", "none"}},
		{1, "bad settings", []string{"keyspace", "create", "x", "--label", strings.Repeat("l", 1000) + "=v"}},
		{1, "no entry of revision 99", []string{"log", "show", "99", "-k", "team-b"}},
		{2, "no admin API answers", []string{"--endpoints", "127.0.0.1:1", "usage"}},
		{2, "no admin API answers", []string{"--endpoints", "/none/x.sock", "usage"}},
		{128, "unknown flag", []string{"usage", "--none"}},
		{128, "unknown command", []string{"none"}},
		{128, "unknown command", []string{"keyspace", "none"}},
		{128, "accepts 1 arg", []string{"keyspace", "show"}},
		{128, "output format", []string{"usage", "-w", "none"}},
		{128, "nothing to set", []string{"keyspace", "set", "team-b"}},
		{128, "there is no limit", []string{"keyspace", "create", "x", "--limit", "none=1"}},
		{128, "whole number", []string{"keyspace", "create", "x", "--limit", "bytes=99999999999TiB"}},
		{128, "not a revision", []string{"log", "show", "x"}},
		{128, "--keyspace names a keyspace", []string{"fsck", "team-b"}},
		{128, "--keyspace names a keyspace", []string{"log", "tail", "team-b"}},
		{128, "takes no argument", []string{"keyspace", "list", "team-b"}},
		{128, "--table", []string{"rows", "--table", "\x80"}},
	} {
		out, errOut, code := c.run(t, wanted.args...)
		if code != wanted.code || !strings.Contains(errOut, wanted.text) {
			t.Errorf("%v: %d, %s%s, want %d, %s", wanted.args, code, out, errOut, wanted.code, wanted.text)
		}
	}
}

// wantLargeEntry checks that headwaterctl shows a log entry that is larger than gRPC clients accept by default. The
// entry is a delete, which holds each key twice.
func wantLargeEntry(t *testing.T, c ctl, e *clientv3.Client) {
	t.Helper()
	const keys, length = 300, 8 << 10
	for i := range keys {
		put(t, e, fmt.Sprintf("large/%03d%s", i, strings.Repeat("k", length)), "")
	}
	if _, err := e.Delete(t.Context(), "large/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	out := c.ok(t, "log", "tail", "-k", "team-b", "-n", "1")
	if n := strings.Count(out, "DELETE"); n != keys {
		t.Errorf("%d of %d events are shown", n, keys)
	}
}

// wantLost checks that headwaterctl fails if it cannot write its output.
func wantLost(t *testing.T, c ctl) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Log("NOT TESTED: this machine has no /dev/full")
		return
	}
	defer full.Close()
	for _, args := range [][]string{
		{"fsck"},
		{"keyspace", "list"},
		{"usage", "-w", "fields"},
		{"usage", "-w", "json"},
		{"rows", "-k", "team-b"},
		{"log", "tail", "-k", "team-b"},
	} {
		cmd := exec.CommandContext(t.Context(), c.path, args...)
		cmd.Env, cmd.Dir, cmd.Stdout = c.env, c.dir, full
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v on a full disk: %v", args, err)
		}
	}
}
