package config

import (
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// parse parses a command line.
func parse(k Kind, args, env string) (Config, Parsed, error) {
	p, err := k.Parse(strings.Fields(args), strings.Fields(env))
	return p.Config, p, err
}

const (
	endpoints = "--kv-endpoints=kv:2379 --watchhub-endpoints=hub:2379,10.0.0.2:2379 --leasekeeper-endpoints=lease:2379 "
)

func TestFlagsOfPods(t *testing.T) {
	c, p, err := parse(KV, endpoints+"--fdb-cluster-file=/etc/fdb.cluster --fdb-tls-certificate-file=c.pem "+
		"--fdb-tls-key-file=c.key --fdb-tls-ca-file=ca.pem --fdb-tls-verify-peers=Check.Valid=1,S.O=Example "+
		"--fdb-root=hw --keyspace=prod --nats-url=nats://a:4222,nats://b:4222 --lanes 8 --pod-address=kv-1:2379 "+
		"--shutdown-delay=5s --name=kv1 --quota-backend-bytes=1 --watch-history-bytes=5",
		"HEADWATER_FDB_ROOT=shadowed ETCD_AUTO_COMPACTION_RETENTION=5m")
	if err != nil {
		t.Fatal(err)
	}
	want := Default(KV)
	want.Name, want.AutoCompactionRetention = "kv1", "5m"
	want.FDBClusterFile, want.FDBRoot, want.Keyspace, want.NATSURL =
		"/etc/fdb.cluster", "hw", "prod", "nats://a:4222,nats://b:4222"
	want.FDBTLS = FDBTLS{
		CertFile: "c.pem", KeyFile: "c.key", CAFile: "ca.pem", VerifyPeers: "Check.Valid=1,S.O=Example",
	}
	want.KVEndpoints, want.WatchHubEndpoints, want.LeaseKeeperEndpoints =
		[]string{"kv:2379"}, []string{"hub:2379", "10.0.0.2:2379"}, []string{"lease:2379"}
	want.Lanes, want.PodAddress, want.ShutdownDelay = 8, "kv-1:2379", 5*time.Second
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if got := strings.Join(p.Ignored, " "); got != "--quota-backend-bytes --watch-history-bytes" {
		t.Error("accepted without effect:", got)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "HEADWATER_FDB_ROOT is shadowed") {
		t.Error(p.Warnings)
	}
	// From the environment, and not needed for the own kind.
	c, _, err = parse(LeaseKeeper, "", "HEADWATER_KV_ENDPOINTS=kv:1 ETCD_WATCHHUB_ENDPOINTS=hub:1 "+
		"HEADWATER_SHUTDOWN_DELAY=1s")
	if err != nil || c.KVEndpoints[0] != "kv:1" || c.ShutdownDelay != time.Second {
		t.Error(c, err)
	}
}

func TestFlagErrorsOfPods(t *testing.T) {
	const namesNeedCA = "--peer-trusted-ca-file is needed with names"
	for args, want := range map[string]string{
		"--name=a":                                 "--watchhub-endpoints must not be empty",
		"--watchhub-endpoints=hub:1":               "--leasekeeper-endpoints must not be empty",
		endpoints + "--watchhub-endpoints=hub":     `--watchhub-endpoints: "hub" is not host:port`,
		endpoints + "--kv-endpoints=kv:0":          `--kv-endpoints: "kv:0" has no port number`,
		endpoints + "--store=pebble":               "start headwater, the standalone server",
		endpoints + "--fdb-root=":                  "--fdb-root",
		endpoints + "--fdb-tls-key-file=k":         "--fdb-tls-key-file needs --fdb-tls-certificate-file",
		endpoints + "--fdb-tls-certificate-file=c": "--fdb-tls-certificate-file needs --fdb-tls-key-file",
		endpoints + "--auto-tls":                   "--auto-tls: each pod would have a certificate of its own",
		endpoints + "--peer-auto-tls":              "--peer-auto-tls: a pod would not know another",
		endpoints + "--peer-cert-file=x":           "--peer-cert-file, --peer-key-file: KeyFile",
		endpoints + "--peer-cert-file=x --peer-key-file=y --peer-cert-allowed-cn=a": namesNeedCA,
		endpoints + "--peer-cert-allowed-cn=a --peer-cert-allowed-hostname=b":       "mutually exclusive",
		endpoints + "--listen-peer-urls=https://127.0.0.1:1":                        "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url",
		endpoints + "--nats-user=a --nats-url=nats://n:1":                           "--nats-user and --nats-password-file need each other",
		endpoints + "--nats-token-file=a":                                           "these flags need --nats-url",
		endpoints + "--nats-token-file=a --nats-nkey-file=b --nats-url=nats://n:1":  "give one of them",
		endpoints + "--nats-cert-file=a --nats-url=nats://n:1":                      "--nats-cert-file, --nats-key-file: KeyFile",
		endpoints + "--fdb-tls-verify-peers=yes":                                    "--fdb-tls-verify-peers",
		endpoints + "--keyspace=":                                                   "--keyspace",
		endpoints + "--lanes=0":                                                     "--lanes must be 1 to 64",
		endpoints + "--lanes=four":                                                  `invalid value "four" for --lanes`,
		endpoints + "--shutdown-delay=-1s":                                          "--shutdown-delay must be 0 to 10m0s",
		endpoints + "--shutdown-delay=11m":                                          "--shutdown-delay must be 0 to",
		endpoints + "--shutdown-delay=soon":                                         `invalid value "soon" for --shutdown-delay`,
		endpoints + "--nats-url=nats":                                               `--nats-url: "nats" is not a URL`,
		endpoints + "--pod-address=here":                                            "--pod-address",
		endpoints + "--no-such-flag":                                                "unknown flag --no-such-flag (see headwater-kv --help)",
		endpoints + "--cert-file=x":                                                 "--cert-file, --key-file: KeyFile and CertFile must both be present[key: , cert: x]",
		endpoints + "--listen-client-urls=https://127.0.0.1:1":                      "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
		endpoints + "--auto-compaction-retention=x":                                 "--auto-compaction-retention",
		endpoints + "--listen-client-urls= --advertise-client-urls=http:/":          "--listen-client-urls must not be empty",
	} {
		if _, _, err := parse(KV, args, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestUsageOfPods(t *testing.T) {
	for _, k := range []Kind{KV, WatchHub, LeaseKeeper} {
		u := k.Usage()
		for _, want := range []string{
			"headwater-" + string(k) + " [flags]", "--fdb-cluster-file", "--listen-client-urls", "--kv-endpoints",
		} {
			if !strings.Contains(u, want) {
				t.Errorf("%s: --help without %s", k, want)
			}
		}
	}
}

func TestAddress(t *testing.T) {
	var peers []string
	address := func(change func(*Config), advertised ...string) string {
		c := Default(KV)
		change(&c)
		a, err := c.Address(peers, advertised)
		if err != nil {
			return err.Error()
		}
		return a
	}
	listen := func(u string) func(*Config) { return func(c *Config) { c.ListenClientURLs = []string{u} } }
	if got := address(listen("http://127.0.0.1:0"), "http://127.0.0.1:4711"); got != "127.0.0.1:4711" {
		t.Error(got)
	}
	if got := address(func(c *Config) { c.PodAddress = "pod:1" }, "http://127.0.0.1:4711"); got != "pod:1" {
		t.Error(got)
	}
	if got := address(func(c *Config) {
		c.AdvertiseClientURLs = []string{"http://lb:2379"}
	}, "http://lb:2379"); got != "lb:2379" {
		t.Error(got)
	}
	if got := address(listen("unix:///run/x"), "unix:///run/x"); got != "unix:///run/x" {
		t.Error(got)
	}
	got := address(listen("http://0.0.0.0:2379"), "http://localhost:2379")
	if host, port, err := net.SplitHostPort(got); err != nil || port != "2379" || net.ParseIP(host) == nil &&
		host != "localhost" {
		t.Error(got, err)
	}
	if got := address(listen("https://127.0.0.1:1"), "https://127.0.0.1:1"); got != "https://127.0.0.1:1" {
		t.Error(got)
	}
	peers = []string{"https://localhost:2380"}
	got = address(func(c *Config) { c.ListenPeerURLs = []string{"https://0.0.0.0:2380"} }, "http://127.0.0.1:1")
	if host, port, err := net.SplitHostPort(strings.TrimPrefix(got, "https://")); err != nil || port != "2380" ||
		host == "0.0.0.0" {
		t.Error(got, err)
	}
	peers = nil
	if got := address(func(*Config) {}); !strings.Contains(got, "--pod-address is needed") {
		t.Error(got)
	}
}
