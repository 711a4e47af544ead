package config

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write testdata")

func TestParse(t *testing.T) {
	with := func(change func(*Config)) Parsed {
		c := Default(Standalone)
		change(&c)
		return Parsed{Config: c}
	}
	for _, c := range []struct {
		name, args string
		env        []string
		want       Parsed
	}{
		{name: "nothing", want: with(func(*Config) {})},
		{name: "both forms", args: "--name=a -data-dir /d", want: with(func(c *Config) { c.Name, c.DataDir = "a", "/d" })},
		{name: "the last one wins", args: "--name=a --name=b", want: with(func(c *Config) { c.Name = "b" })},
		{name: "boolean without a value", args: "--enable-pprof --name a", want: with(func(c *Config) { c.EnablePprof, c.Name = true, "a" })},
		{name: "lists", args: "--listen-client-urls http://127.0.0.1:1,unix:///tmp/s", want: with(func(c *Config) {
			c.ListenClientURLs = []string{"http://127.0.0.1:1", "unix:///tmp/s"}
		})},
		{
			name: "numbers and durations",
			args: "--max-request-bytes=10 --max-txn-ops=7 --max-concurrent-streams=4294967295 " +
				"--quota-backend-bytes=1 --grpc-keepalive-min-time=1s --grpc-keepalive-interval=0s " +
				"--grpc-keepalive-timeout=3s --watch-progress-notify-interval=5s " +
				"--warning-unary-request-duration=0s --metrics=extensive",
			want: with(func(c *Config) {
				c.MaxRequestBytes, c.MaxTxnOps, c.MaxConcurrentStreams, c.QuotaBackendBytes = 10, 7, math.MaxUint32, 1
				c.KeepaliveMinTime, c.KeepaliveInterval, c.KeepaliveTimeout = time.Second, 0, 3*time.Second
				c.WatchProgressNotifyInterval, c.WarningUnaryRequestDuration, c.ExtensiveMetrics =
					5*time.Second, 0, true
			}),
		},
		{
			name: "ignored", args: "--pre-vote --initial-cluster a=b --snapshot-count=5 --initial-cluster x=y",
			want: Parsed{Config: Default(Standalone), Ignored: []string{"--initial-cluster", "--pre-vote", "--snapshot-count"}},
		},
		{
			name: "names of etcd 3.5",
			args: "--experimental-initial-corrupt-check=true --experimental-watch-progress-notify-interval=5s",
			want: Parsed{
				Config:  with(func(c *Config) { c.WatchProgressNotifyInterval = 5 * time.Second }).Config,
				Ignored: []string{"--experimental-initial-corrupt-check"},
			},
		},
		{name: "flags that ask for nothing", args: "--client-cert-auth=false --cert-file=", want: with(func(*Config) {})},
		{
			name: "environment", env: []string{
				"ETCD_NAME=e", "HEADWATER_DATA_DIR=/h", "ETCD_DATA_DIR=/e", "ETCD_LOG_LEVEL=", "PATH=x",
				"ETCDCTL_API=3",
			},
			want: Parsed{
				Config:   with(func(c *Config) { c.Name, c.DataDir = "e", "/h" }).Config,
				Env:      []string{"ETCD_NAME", "HEADWATER_DATA_DIR"},
				Warnings: []string{"environment variable ETCD_DATA_DIR is shadowed by a flag or by HEADWATER_*"},
			},
		},
		{
			name: "flag over environment", args: "--name f", env: []string{"HEADWATER_NAME=h", "ETCD_NAME=e"},
			want: Parsed{
				Config: with(func(c *Config) { c.Name = "f" }).Config,
				Warnings: []string{
					"environment variable HEADWATER_NAME is shadowed by a flag or by HEADWATER_*",
					"environment variable ETCD_NAME is shadowed by a flag or by HEADWATER_*",
				},
			},
		},
		{
			name: "unknown and ignored variables",
			env:  []string{"ETCD_X=1", "HEADWATER_Y=", "ETCD_INITIAL_CLUSTER=a=b"},
			want: Parsed{
				Config: Default(Standalone), Ignored: []string{"ETCD_INITIAL_CLUSTER"},
				Env:      []string{"ETCD_INITIAL_CLUSTER"},
				Warnings: []string{"unrecognized environment variables: ETCD_X HEADWATER_Y"},
			},
		},
		{name: "the command version", args: "version", want: Parsed{Config: Default(Standalone), Version: true}},
		{name: "version", args: "--name x --version", want: Parsed{Config: Default(Standalone), Version: true}},
		{name: "help", args: "-h", want: Parsed{Config: Default(Standalone), Help: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Standalone.Parse(strings.Fields(c.args), c.env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(Parsed{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		args string
		env  string
		want string
	}{
		{args: "--nome x", want: "unknown flag --nome (see headwater --help)"},
		{args: "gateway start", want: `"gateway" is not a flag (see headwater --help)`},
		{args: "--", want: `"--" is not a flag (see headwater --help)`},
		{args: "--name", want: "flag --name needs a value"},
		{args: "--max-txn-ops=x", want: `invalid value "x" for --max-txn-ops: not a whole number`},
		{args: "--max-txn-ops=-1", want: `invalid value "-1" for --max-txn-ops: not in 0 to 2147483647`},
		{args: "--grpc-keepalive-timeout 5", want: `invalid value "5" for --grpc-keepalive-timeout: not a duration such as 10s or 5m`},
		{args: "--enable-pprof=maybe", want: `invalid value "maybe" for --enable-pprof: not true or false`},
		{env: "ETCD_MAX_TXN_OPS=many", want: `invalid value "many" for ETCD_MAX_TXN_OPS: not a whole number`},
		{args: "--listen-client-urls https://127.0.0.1:2379", want: "--listen-client-urls: TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:2379 with HTTPS scheme"},
		{args: "--listen-client-http-urls unixs:///x", want: "--listen-client-http-urls: TLS key/cert (--cert-file, --key-file) must be provided for client url unixs:///x with HTTPS scheme"},
		{args: "--listen-metrics-urls https://127.0.0.1:2379", want: "--listen-metrics-urls: client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"},
		{args: "--cert-file a.crt", want: "--cert-file, --key-file: KeyFile and CertFile must both be present[key: , cert: a.crt]"},
		{args: "--client-key-file k", want: "--client-cert-file, --client-key-file: ClientKeyFile and ClientCertFile must both be present or both absent: key: k, cert: ]"},
		{args: "--tls-min-version TLS1.1", want: `--cipher-suites, --tls-min-version, --tls-max-version: unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)`},
		{args: "--tls-min-version TLS1.3 --tls-max-version TLS1.2", want: "--cipher-suites, --tls-min-version, --tls-max-version: min version (TLS1.3) is greater than max version (TLS1.2)"},
		{args: "--tls-min-version TLS1.3 --cipher-suites TLS_AES_128_GCM_SHA256", want: "--cipher-suites, --tls-min-version, --tls-max-version: cipher suites cannot be configured when only TLS1.3 is enabled"},
		{args: "--cipher-suites ROT13", want: `--cipher-suites, --tls-min-version, --tls-max-version: unexpected TLS cipher suite "ROT13"`},
		{args: "--auto-tls --self-signed-cert-validity 0", want: "--self-signed-cert-validity: selfSignedCertValidity is invalid,it should be greater than 0"},
		{
			args: "--cert-file c --key-file k --client-cert-allowed-hostname h",
			want: "--trusted-ca-file is needed with names and revocation lists: without it clients would not be " +
				"asked for a certificate",
		},
		{
			args: "--cert-file c --key-file k --trusted-ca-file a --listen-admin-urls https://127.0.0.1:0",
			want: "--listen-admin-urls: with TLS it needs --admin-cert-allowed-cn or " +
				"--admin-cert-allowed-hostname: a certificate alone does not make a client an administrator",
		},
		{args: "--cert-file c --key-file k --listen-admin-urls https://127.0.0.1:0 --admin-cert-allowed-cn a", want: "--listen-admin-urls: with TLS it needs --cert-file, --key-file and --trusted-ca-file"},
		{args: "--admin-cert-allowed-cn a", want: "--admin-cert-allowed-cn, --admin-cert-allowed-hostname: no URL of --listen-admin-urls has TLS"},
		{args: "--listen-client-urls 127.0.0.1:2379", want: `--listen-client-urls: "127.0.0.1:2379" is not a URL`},
		{args: "--listen-client-urls http://example.com:2379", want: "--listen-client-urls: expected IP in URL for binding (http://example.com:2379)"},
		{args: "--listen-metrics-urls http://127.0.0.1", want: `--listen-metrics-urls: URL "http://127.0.0.1" needs host:port`},
		{args: "--listen-client-urls=", want: "--listen-client-urls must not be empty"},
		{args: "--advertise-client-urls localhost", want: `--advertise-client-urls: "localhost" is not a URL`},
		{args: "--name=", want: "--name must not be empty"},
		{args: "--auto-compaction-mode hourly", want: `--auto-compaction-mode "hourly" is not periodic or revision`},
		{args: "--auto-compaction-retention x", want: `--auto-compaction-retention "x" is neither hours nor a duration`},
		{args: "--log-level loud", want: `--log-level "loud" is not one of debug, info, warn, error, panic, fatal`},
		{args: "--log-format xml", want: `--log-format "xml" is not json or console`},
		{args: "--log-outputs default,stderr", want: `--log-outputs: "default" cannot be one of several`},
		{args: "--enable-log-rotation", want: "--enable-log-rotation: --log-outputs must have exactly one file path"},
		{args: "--enable-log-rotation --log-outputs /l,/m", want: "--enable-log-rotation: --log-outputs must have exactly one file path"},
		{args: "--enable-log-rotation --log-outputs /l --log-rotation-config-json={", want: "--log-rotation-config-json: unexpected end of JSON input"},
		{args: "--enable-distributed-tracing --distributed-tracing-sampling-rate=1000001", want: "--distributed-tracing-sampling-rate must be 0 to 1000000"},
		{args: "--logger capnslog", want: `invalid value "capnslog" for --logger: want one of [zap]`},
		{args: "--config-file /no/such/file", want: "--config-file /no/such/file: stat /no/such/file: no such file or directory"},
	} {
		t.Run(c.args+c.env, func(t *testing.T) {
			_, err := Standalone.Parse(strings.Fields(c.args), []string{c.env})
			var usage UsageError
			if !errors.As(err, &usage) || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// TestFlagTable checks the table itself: every flag has what its treatment needs, no name occurs twice, what a flag's
// default says is what Default holds for each kind that takes it, and etcd's flags are known to all.
func TestFlagTable(t *testing.T) {
	for _, k := range append([]Kind{Standalone}, Pods...) {
		flags := k.flags()
		if n := len(flags.index); n != len(flags.defs) {
			t.Errorf("%s: %d names for %d flags", k, n, len(flags.defs))
		}
		for i := range flags.defs {
			checkDefault(t, k, &flags.defs[i])
		}
	}
	for i := range flagTable {
		f := &flagTable[i]
		if (f.kind == works) != (f.set != nil) || (f.kind == works) != (f.help != "") ||
			(f.kind == works) == (f.note != "") {
			t.Errorf("--%s: fields do not fit its kind", f.name)
		}
		if f.kind != works && (f.takes != 0 || f.podDef != nil) {
			t.Errorf("--%s is ignored, and not for all", f.name)
		}
		if !f.own() && f.takes != 0 && f.elsewhere == "" {
			t.Errorf("etcd's --%s is not known to all", f.name)
		}
	}
}

// checkDefault checks that a flag's default is that of Default.
func checkDefault(t *testing.T, k Kind, f *flagDef) {
	t.Helper()
	if f.kind != works || f.name == "data-dir" && !k.IsPod() {
		return
	}
	c := Default(k)
	if err := f.set(&c, f.def); err != nil {
		t.Errorf("%s --%s: default %q: %v", k, f.name, f.def, err)
	}
	if diff := cmp.Diff(Default(k), c); diff != "" {
		t.Errorf("%s --%s: %q is not the default: %s", k, f.name, f.def, diff)
	}
}

// TestKnowsAllFlagsOfEtcd goes through the names of etcd 3.7.3 (its help text and its flag set), one a line in
// testdata.
func TestKnowsAllFlagsOfEtcd(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "etcd-3.7.3-flags.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(b)) {
		if Standalone.flags().lookup(name) == nil {
			t.Errorf("etcd's --%s is unknown", name)
		}
	}
}

// docBegin and docEnd are around what TestDocument compares.
const docBegin, docEnd = "<!-- flags: begin; written by go test ./libs/config -run TestDocument -update -->\n",
	"<!-- flags: end -->\n"

// TestDocument: docs/compatibility.md has the table as it is.
func TestDocument(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "compatibility.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), docBegin)
	has, after, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		t.Fatalf("%s does not have the lines %q and %q", path, docBegin, docEnd)
	}
	want := flagsMarkdown()
	if *update {
		if err := os.WriteFile(path, []byte(before+docBegin+want+docEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, has); diff != "" {
		t.Errorf("%s is not the table (run with -update): %s", path, diff)
	}
}

// flagsMarkdown is the documentation of all flags, in Markdown.
func flagsMarkdown() string {
	code := func(v string) string {
		if v == "" {
			return "(empty)"
		}
		return "`" + v + "`"
	}
	var b strings.Builder
	b.WriteString("### Flags that work\n\n| flag | whose | processes | default | meaning |\n|---|---|---|---|---|\n")
	for i := range flagTable {
		if f := &flagTable[i]; f.kind == works {
			fmt.Fprintf(&b, "| `--%s` | %s | %s | %s | %s |\n", f.name, whose(f), takers(f), defaults(f, code), f.help)
		}
	}
	b.WriteString("\n### Flags that work in some processes, and are accepted without effect in the others\n\n| why | flags |\n|---|---|\n")
	writeByReason(&b, func(f *flagDef) string { return f.elsewhere })
	b.WriteString("\n### Flags that are accepted without effect (one warning names those given)\n\n| why | flags |\n|---|---|\n")
	writeByReason(&b, func(f *flagDef) string {
		if f.kind != ignored {
			return ""
		}
		return f.note
	})
	return b.String()
}

// writeByReason writes a row for each reason, with the flags that have it.
func writeByReason(b *strings.Builder, reason func(*flagDef) string) {
	var reasons []string
	flags := make(map[string][]string)
	for i := range flagTable {
		f := &flagTable[i]
		r := reason(f)
		if r == "" {
			continue
		}
		if flags[r] == nil {
			reasons = append(reasons, r)
		}
		flags[r] = append(flags[r], "`--"+f.name+"`")
	}
	for _, r := range reasons {
		fmt.Fprintf(b, "| %s | %s |\n", r, strings.Join(flags[r], " "))
	}
}

func whose(f *flagDef) string {
	if f.own() {
		return "ours"
	}
	return "etcd"
}

func takers(f *flagDef) kinds {
	if f.takes == 0 {
		return onAll
	}
	return f.takes
}

func defaults(f *flagDef, code func(string) string) string {
	if f.podDef == nil {
		return code(f.def)
	}
	return code(f.def) + ", pods: " + code(*f.podDef)
}

func TestUsage(t *testing.T) {
	u := Standalone.Usage()
	for i := range flagTable {
		if flagTable[i].takes != onPods && !strings.Contains(u, "--"+flagTable[i].name) {
			t.Errorf("--%s is not in the help", flagTable[i].name)
		}
	}
}

// TestRefusedAtOnce: one error names everything that cannot be read.
func TestRefusedAtOnce(t *testing.T) {
	args := []string{"--max-txn-ops=x", "--metrics=x"}
	want := []string{`invalid value "x" for --max-txn-ops`, `invalid value "x" for --metrics`, "for ETCD_ENABLE_PPROF"}
	_, err := Standalone.Parse(args, []string{"ETCD_ENABLE_PPROF=x"})
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in %v", w, err)
		}
	}
}

// TestSettled: etcd starts with these values, and so do we.
func TestSettled(t *testing.T) {
	def := Default(Standalone)
	for _, c := range []struct {
		args     string
		value    func(*Config) any
		want     any
		warnings int
	}{
		{"--quota-backend-bytes=-1", func(c *Config) any { return c.QuotaBackendBytes }, int64(0), 0},
		{"--max-txn-ops=0", func(c *Config) any { return c.MaxTxnOps }, def.MaxTxnOps, 1},
		{"--max-request-bytes=0", func(c *Config) any { return c.MaxRequestBytes }, def.MaxRequestBytes, 1},
		{"--max-request-bytes=4294967295", func(c *Config) any { return c.MaxRequestBytes }, maxRequestBytesMax, 1},
		{"--max-concurrent-streams=0", func(c *Config) any { return c.MaxConcurrentStreams }, uint32(math.MaxUint32), 0},
		{"--grpc-keepalive-min-time=-1s", func(c *Config) any { return c.KeepaliveMinTime }, time.Duration(0), 0},
		{"--grpc-keepalive-interval=-1s", func(c *Config) any { return c.KeepaliveInterval }, time.Duration(0), 0},
		{"--grpc-keepalive-timeout=-1s", func(c *Config) any { return c.KeepaliveTimeout }, time.Duration(0), 0},
		{"--watch-progress-notify-interval=0s", func(c *Config) any { return c.WatchProgressNotifyInterval }, def.WatchProgressNotifyInterval, 0},
		{"--watch-progress-notify-interval=-1s", func(c *Config) any { return c.WatchProgressNotifyInterval }, def.WatchProgressNotifyInterval, 0},
		{"--watch-progress-notify-interval=1ms", func(c *Config) any { return c.WatchProgressNotifyInterval }, watchProgressMin, 1},
		{"--warning-unary-request-duration=-1s", func(c *Config) any { return c.WarningUnaryRequestDuration }, time.Nanosecond, 0},
		{"--listen-client-urls=http://[::1]:1,http://127.0.0.1:1,http://[::1]:1", func(c *Config) any { return c.ListenClientURLs }, []string{"http://[::1]:1", "http://127.0.0.1:1"}, 0},
		{"--listen-metrics-urls=http://[::1]:1,http://[::1]:1", func(c *Config) any { return c.ListenMetricsURLs }, []string{"http://[::1]:1"}, 0},
		{"--log-outputs=stderr,stderr", func(c *Config) any { return c.LogOutputs }, []string{"stderr"}, 0},
		{"--max-learners=-1 --max-wals=0 --max-snapshots=0", func(*Config) any { return nil }, nil, 0},
	} {
		p, err := Standalone.Parse(strings.Fields(c.args), nil)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		if diff := cmp.Diff(c.want, c.value(&p.Config)); diff != "" || len(p.Warnings) != c.warnings {
			t.Errorf("%s: %s warnings %q", c.args, diff, p.Warnings)
		}
	}
}

// TestStartsOfOthers: the command lines and environments that others start etcd with are taken.
func TestStartsOfOthers(t *testing.T) {
	for name, c := range map[string]struct{ args, env string }{
		"kubeadm": {args: `--advertise-client-urls=https://10.0.0.1:2379 --cert-file=/pki/server.crt --client-cert-auth=true
			--data-dir=/var/lib/etcd --experimental-initial-corrupt-check=true --experimental-watch-progress-notify-interval=5s
			--feature-gates=InitialCorruptCheck=true --watch-progress-notify-interval=5s
			--initial-advertise-peer-urls=https://10.0.0.1:2380 --initial-cluster=a=https://10.0.0.1:2380 --key-file=/pki/server.key
			--listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379 --listen-metrics-urls=http://127.0.0.1:2381
			--listen-peer-urls=https://10.0.0.1:2380 --name=a --peer-cert-file=/pki/peer.crt --peer-client-cert-auth=true
			--peer-key-file=/pki/peer.key --peer-trusted-ca-file=/pki/ca.crt --snapshot-count=10000 --trusted-ca-file=/pki/ca.crt`},
		"bitnami": {env: `ETCD_NAME=etcd-0 ETCD_DATA_DIR=/bitnami/etcd/data ETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379
			ETCD_ADVERTISE_CLIENT_URLS=http://etcd-0:2379 ETCD_LISTEN_PEER_URLS=http://0.0.0.0:2380
			ETCD_INITIAL_ADVERTISE_PEER_URLS=http://etcd-0:2380 ETCD_INITIAL_CLUSTER=etcd-0=http://etcd-0:2380
			ETCD_INITIAL_CLUSTER_STATE=new ETCD_INITIAL_CLUSTER_TOKEN=t ETCD_CERT_FILE=/c/cert.pem ETCD_KEY_FILE=/c/key.pem
			ETCD_TRUSTED_CA_FILE=/c/ca.crt ETCD_CLIENT_CERT_AUTH=true ETCD_AUTO_TLS=false ETCD_PEER_AUTO_TLS=false
			ETCD_AUTH_TOKEN=jwt,priv-key=/certs/token/jwt-token.pem,sign-method=RS256,ttl=10m ETCD_LOG_LEVEL=info
			ETCD_AUTO_COMPACTION_MODE=periodic ETCD_AUTO_COMPACTION_RETENTION=1 ETCD_QUOTA_BACKEND_BYTES=0
			ETCD_ENABLE_PPROF=false ETCD_HEARTBEAT_INTERVAL=100 ETCD_ELECTION_TIMEOUT=1000 ETCD_SNAPSHOT_COUNT=10000
			ETCD_ROOT_PASSWORD=p ALLOW_NONE_AUTHENTICATION=yes ETCD_DISABLE_PRESTOP=yes ETCD_BASE_DIR=/opt/bitnami/etcd`},
	} {
		_, err := Standalone.Parse(strings.Fields(c.args), strings.Fields(c.env))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("--name=a --pre-vote", "ETCD_NAME=b")
	f.Add("--listen-client-urls unix://", "HEADWATER_CORS=,")
	f.Add("-", "=")
	f.Fuzz(func(t *testing.T, args, env string) {
		p, err := Standalone.Parse(strings.Fields(args), strings.Fields(env))
		if err == nil && !p.Help && !p.Version && p.Config.Validate(Standalone) != nil {
			t.Error("accepted what is invalid")
		}
	})
}
