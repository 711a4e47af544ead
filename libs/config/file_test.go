package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writeFile writes a configuration file and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "etcd.conf.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// etcdFile has the names and forms of etcd's own sample: empty values, lists, sections, and names that it no longer
// has.
const etcdFile = `
# the server
name: 'one'
data-dir: /d
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
quota-backend-bytes: 8589934592
listen-peer-urls: http://localhost:2380
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
advertise-client-urls: http://127.0.0.1:1
max-wals: 5
cors:
discovery:
discovery-fallback: 'proxy'
initial-cluster:
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: yes
proxy: 'off'
proxy-failure-wait: 5000
watch-progress-notify-interval: 5000000000
warning-unary-request-duration: 1s
max-txn-ops: 0x100
client-transport-security:
  cert-file:
  client-cert-auth: false
  auto-tls: off
peer-transport-security:
  cert-file: /p.crt
  allowed-cn: [a, b]
self-signed-cert-validity: 1
log-level: debug
log-outputs: [stdout, /l]
auto-compaction-mode: revision
auto-compaction-retention: 1000
cache-bytes: 7
socket-options: {reuse-port: true}
`

func TestConfigFile(t *testing.T) {
	path := writeFile(t, etcdFile)
	for _, c := range []struct {
		name      string
		args, env []string
		beside    string
	}{
		{name: "flag", args: []string{"--config-file=" + path, "--name=x"}, env: []string{"ETCD_DATA_DIR=/e"}, beside: "--name ETCD_DATA_DIR"},
		{name: "etcd's variable", env: []string{"ETCD_CONFIG_FILE=" + path}},
		{name: "our variable", env: []string{"HEADWATER_CONFIG_FILE=" + path, "ETCD_NAME="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Standalone.Parse(c.args, c.env)
			if err != nil {
				t.Fatal(err)
			}
			want := Default(Standalone)
			want.ConfigFile, want.Name, want.DataDir, want.EnablePprof = path, "one", "/d", true
			want.QuotaBackendBytes, want.MaxTxnOps, want.CacheBytes = 8<<30, 256, 7
			want.ListenClientURLs = []string{"http://127.0.0.1:1", "http://127.0.0.1:2"}
			want.AdvertiseClientURLs = []string{"http://127.0.0.1:1"}
			want.WatchProgressNotifyInterval, want.WarningUnaryRequestDuration = 5*time.Second, time.Second
			want.LogLevel, want.LogOutputs = "debug", []string{"stdout", "/l"}
			want.AutoCompactionMode, want.AutoCompactionRetention = "revision", "1000"
			if diff := cmp.Diff(want, p.Config); diff != "" {
				t.Error(diff)
			}
			var warnings []string
			if c.beside != "" {
				warnings = append(warnings, "--config-file is given; not used beside it: "+c.beside)
			}
			warnings = append(warnings, "unknown names in "+path+", not used: proxy proxy-failure-wait")
			if diff := cmp.Diff(warnings, p.Warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestConfigFileRefuses: the start fails with one error that names every setting that cannot be used. No setting of a
// security section is ignored.
func TestConfigFileRefuses(t *testing.T) {
	for text, want := range map[string][]string{
		"max-txn-ops: x\nmetrics: y":   {`"x" for max-txn-ops`, `"y" for metrics`},
		"enable-pprof: perhaps":        {`enable-pprof: "perhaps" is not true or false`},
		"name: {a: b}":                 {"name: is neither a value nor a list"},
		"- name":                       {"is not a mapping of names to values"},
		"client-transport-security: x": {"client-transport-security is not a mapping"},
		"a: b: c":                      {"mapping values are not allowed"},
		"client-transport-security: {allowed-cns: [a], y: 1}":  {"client-transport-security.allowed-cns is not", "client-transport-security.y is not"},
		"peer-transport-security: {cert-flie: x, ca-file: ''}": {"peer-transport-security.cert-flie is not supported"},
	} {
		path := writeFile(t, text)
		_, err := Standalone.Parse([]string{"--config-file", path}, nil)
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) || !strings.Contains(err.Error(), path) &&
				strings.HasPrefix(w, "is not") {
				t.Errorf("%q: %v does not say %q", text, err, w)
			}
		}
	}
	if _, err := Standalone.Parse([]string{"--config-file", writeFile(t, "# nothing\n")}, nil); err != nil {
		t.Error("an empty file:", err)
	}
	long := writeFile(t, strings.Repeat("#\n", fileBytesMax))
	if _, err := Standalone.Parse([]string{"--config-file", long}, nil); err == nil {
		t.Error("a file that is too large is read")
	}
}

// TestSectionsNameFlags: each name of a section that etcd has a flag for is that flag.
func TestSectionsNameFlags(t *testing.T) {
	flags := Standalone.flags()
	withoutFlag := map[string]bool{"client-cert-allowed-cn": true, "client-skip-client-san-verification": true}
	for section, names := range fileSections {
		for name, flag := range names {
			if flags.lookup(flag) == nil && !withoutFlag[flag] {
				t.Errorf("%s.%s is --%s, which is not there", section, name, flag)
			}
		}
	}
}

func FuzzConfigFile(f *testing.F) {
	f.Add(etcdFile)
	f.Add("client-transport-security: {allowed-cn: [a]}")
	f.Add("a: &x [*x]")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Standalone.Parse([]string{"--config-file", writeFile(t, text)}, nil)
		if err == nil && p.Config.Validate(Standalone) != nil {
			t.Error("accepted what is invalid")
		}
	})
}
