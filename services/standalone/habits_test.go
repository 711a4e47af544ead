package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServiceManager: a unit of Type=notify with a watchdog is told of start, life and stop.
func TestServiceManager(t *testing.T) {
	dir, err := os.MkdirTemp("", "hw") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	cmd, out := command([]string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=100000"},
		"--data-dir", filepath.Join(dir, "d"), "--listen-client-urls", "http://127.0.0.1:0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	told := func() string {
		b := make([]byte, 100)
		_ = manager.SetReadDeadline(time.Now().Add(patience))
		n, err := manager.Read(b)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(b[:n])
	}
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := told(); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	if !servingURL.MatchString(out.String()) {
		t.Error("ready before it serves")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	got := told()
	for got == "WATCHDOG=1" {
		got = told()
	}
	if got != "STOPPING=1" {
		t.Errorf("told %q, want STOPPING=1", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestConfigFileAndLogs: a server that is told everything by a file, as etcd's unit has it, with its logs in a file.
func TestConfigFileAndLogs(t *testing.T) {
	dir := t.TempDir()
	logs, file := filepath.Join(dir, "log"), filepath.Join(dir, "etcd.conf.yml")
	text := "name: n\ndata-dir: " + filepath.Join(dir, "d") + `
listen-client-urls: http://127.0.0.1:0,http://127.0.0.1:0
log-outputs: [` + logs + `]
enable-log-rotation: true
log-rotation-config-json: '{"maxsize": 1, "maxbackups": 2}'
quota-backend-bytes: -1
no-such-name: 1
client-transport-security:
  client-cert-auth: false
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, out := command([]string{"ETCD_CONFIG_FILE=" + file, "ETCD_NAME=not-used"})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	read := func() string {
		b, _ := os.ReadFile(logs)
		return string(b)
	}
	eventually(t, "serving", func() bool { return servingURL.MatchString(read()) })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || out.String() != "" {
		t.Errorf("%v %s", err, out)
	}
	for line := range strings.Lines(read()) {
		var fields struct{ Level, TS, Caller, Msg string }
		if err := json.Unmarshal([]byte(line), &fields); err != nil || fields.TS == "" || !strings.Contains(fields.Caller, ".go:") {
			t.Errorf("%v: %s", err, line)
		}
	}
	for _, want := range []string{`"name":"n"`, "not used: no-such-name", "not used beside it: ETCD_NAME"} {
		if !strings.Contains(read(), want) {
			t.Errorf("%s is not in %s", want, read())
		}
	}
}
