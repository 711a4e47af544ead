package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/headwaterdb/headwater/bench/load"
	"github.com/headwaterdb/headwater/bench/nullserver"
)

// hwbench runs one command line and returns its result.
func hwbench(t *testing.T, args ...string) (load.Result, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := New(&out)
	cmd.SetArgs(append(args, "--json"))
	runErr := cmd.ExecuteContext(t.Context())
	var res load.Result
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &res); err != nil {
			t.Fatalf("%v: %v in %q", args, err, out.String())
		}
	}
	return res, runErr
}

func startNull(t *testing.T) (endpoint string) {
	t.Helper()
	lis, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- nullserver.Serve(ctx, lis, 16) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

// TestNullServer sends each load that needs no data to the null server.
func TestNullServer(t *testing.T) {
	endpoint := startNull(t)
	for _, line := range []string{
		"put --total 30", "fill --key-space-size 30", "range --total 30", "range k --total 30 --consistency s",
		"mixed --total 30",
		"txn-put --total 30 --txn-ops 3", "txn-mixed --total 30", "create --total 30",
		"update --total 30 --key-space-size 30",
		"lease-keepalive --total 30", "lease-keepalive --total 30 --stream", "put --rate 1000 --total 30",
	} {
		t.Run(line, func(t *testing.T) {
			args := append(strings.Fields(line), "--endpoints="+endpoint, "--verify=false", "--conns=2", "--clients=3",
				"--server-pid="+strconv.Itoa(os.Getpid()))
			res, err := hwbench(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			if res.Errors != 0 || res.Units == 0 || res.Conflicts != 0 || res.Server == nil {
				t.Errorf("result %+v", res)
			}
		})
	}
	t.Run("a window", func(t *testing.T) {
		// On a busy machine nothing may have been answered within a short one.
		for d := 20 * time.Millisecond; ; d *= 4 {
			res, err := hwbench(t, "range", "--duration="+d.String(), "--warmup=10ms", "--endpoints="+endpoint,
				"--verify=false", "--conns=2", "--clients=3")
			if err != nil {
				t.Fatal(err)
			}
			if res.Errors == 0 && res.Units > 0 {
				return
			}
			if res.Errors > 0 || d > 30*time.Second {
				t.Fatalf("result %+v", res)
			}
		}
	})
	t.Run("verify", func(t *testing.T) {
		_, err := hwbench(t, "put", "--total=1", "--endpoints="+endpoint)
		if err == nil || !strings.Contains(err.Error(), "acknowledged 1 writes") {
			t.Errorf("a server that stores nothing passed: %v", err)
		}
	})
}

func startEtcd(t *testing.T) (endpoint string, c *clientv3.Client) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.UnsafeNoFsync = true
	cfg.LogLevel, cfg.LogOutputs = "error", []string{os.DevNull}
	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls, cfg.ListenPeerUrls, cfg.AdvertisePeerUrls =
		local, local, local, local
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	endpoint = e.Clients[0].Addr().String()
	c, err = clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return endpoint, c
}

// counts are what a load says it did.
type counts struct{ Ops, Units, Writes, Revisions, Conflicts int64 }

// TestEtcd checks on a real etcd that each load does what it says: its own counts, the server's revision (--verify),
// and the keys that are there.
func TestEtcd(t *testing.T) {
	endpoint, c := startEtcd(t)
	tests := []struct {
		line   string
		want   counts
		prefix string
		keys   int64 // under prefix, after it
	}{
		{"fill --key-space-size 25 --txn-ops 10 --prefix /f/", counts{3, 25, 3, 3, 0}, "/f/", 25},
		{"fill --key-space-size 25 --txn-ops 1 --prefix /f/", counts{25, 25, 25, 25, 0}, "/f/", 25},
		{"put --total 40 --sequential-keys --prefix /p/", counts{40, 40, 40, 40, 0}, "/p/", 40},
		{"put --total 40 --key-space-size 1 --prefix /q/", counts{40, 40, 40, 40, 0}, "/q/", 1},
		{"range --total 40 --key-space-size 25 --prefix /f/", counts{40, 40, 0, 0, 0}, "/f/", 25},
		{
			"range --total 40 --key-space-size 25 --prefix /f/ --consistency s --keys-only",
			counts{40, 40, 0, 0, 0},
			"/f/",
			25,
		},
		{"range /f/ --key-is-prefix --total 4 --limit 3", counts{4, 4, 0, 0, 0}, "/f/", 25},
		{"list --total 4 --key-space-size 25 --limit 10 --prefix /f/", counts{4, 100, 0, 0, 0}, "/f/", 25},
		{"list --total 4 --key-space-size 25 --limit 5 --prefix /f/", counts{4, 100, 0, 0, 0}, "/f/", 25},
		{"count --total 4 --key-space-size 25 --prefix /f/", counts{4, 100, 0, 0, 0}, "/f/", 25},
		{"count --total 4 --key-space-size 25 --limit 5 --prefix /f/", counts{4, 100, 0, 0, 0}, "/f/", 25},
		{"mixed --total 40 --rw-ratio 0 --key-space-size 25 --prefix /f/", counts{40, 40, 40, 40, 0}, "/f/", 25},
		{"txn-put --total 8 --txn-ops 5 --sequential-keys --prefix /t/", counts{8, 8, 8, 8, 0}, "/t/", 40},
		{"txn-mixed --total 40 --rw-ratio 0 --prefix /f/ --key-space-size 25", counts{40, 40, 40, 40, 0}, "/f/", 25},
		{"create --total 40 --prefix /c/", counts{40, 40, 40, 40, 0}, "/c/", 40},
		{"create --total 40 --prefix /c/", counts{40, 0, 0, 0, 40}, "/c/", 40},
		{"update --total 40 --key-space-size 25 --prefix /f/", counts{40, 40, 40, 40, 0}, "/f/", 25},
		{"lease-keepalive --total 40", counts{40, 40, 0, 0, 0}, "/f/", 25},
		{"lease-keepalive --total 40 --stream", counts{40, 40, 0, 0, 0}, "/f/", 25},
		{
			"watch --streams 3 --watch-per-stream 4 --put-total 20 --watched-key-total 5 --prefix /w/ " +
				"--sequential-keys",
			counts{20, 4*(3+3) + 4*2*3, 20, 20, 0},
			"/w/",
			5,
		},
		{
			"watch --streams 3 --watch-per-stream 4 --put-total 20 --watched-key-total 5 " +
				"--prefix /w/ --watch-prefix --prevkv",
			counts{20, 240, 20, 20, 0},
			"/w/",
			5,
		},
		{
			"watch-latency --streams 2 --watchers-per-stream 3 --put-total 20 --put-rate 2000 --prefix /l/",
			counts{20, 120, 20, 20, 0},
			"/l/",
			1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			args := append(strings.Fields(tt.line), "--endpoints="+endpoint, "--conns=2", "--clients=3")
			res, err := hwbench(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			got := counts{res.Ops, res.Units, res.Writes, res.Revisions, res.Conflicts}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			resp, err := c.Get(t.Context(), tt.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
			if err != nil || resp.Count != tt.keys {
				t.Errorf("%d keys under %s, want %d (%v)", resp.Count, tt.prefix, tt.keys, err)
			}
		})
	}
	t.Run("leases", func(t *testing.T) {
		resp, err := c.Leases(t.Context())
		if err != nil || len(resp.Leases) != 6 { // two runs of three clients
			t.Errorf("%d leases, want 6 (%v)", len(resp.Leases), err)
		}
	})
	t.Run("mixed ratio", func(t *testing.T) {
		res, err := hwbench(t, "mixed", "--total=500", "--key-space-size=25", "--prefix=/f/", "--endpoints="+endpoint)
		if err != nil {
			t.Fatal(err)
		}
		puts, _ := res.Kind("put")
		ranges, _ := res.Kind("range")
		if puts.Count+ranges.Count != 500 || puts.Count != res.Writes || puts.Count < 50 || puts.Count > 150 {
			t.Errorf("%d ranges, %d puts, %d writes; want about 4:1", ranges.Count, puts.Count, res.Writes)
		}
	})
}

// TestEtcdFailures checks that loads notice data that is not as they expect.
func TestEtcdFailures(t *testing.T) {
	endpoint, c := startEtcd(t)
	if _, err := hwbench(t, "fill", "--key-space-size=20", "--endpoints="+endpoint); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"range --key-space-size 20 --total 5 --prefix /none/":               "run fill first",
		"mixed --key-space-size 20 --total 5 --rw-ratio 99 --prefix /none/": "run fill first",
		"list --key-space-size 19 --total 1":                                "count 20, want 19",
		"count --key-space-size 21 --total 1":                               "count 20 and 0 keys, want 21 and 0",
		"list --key-space-size 21 --total 1":                                "count 20, want 21",
		"watch --put-total 1 --val-size 7":                                  "val-size",
		"put --total 0":                                                     "total or duration",
		"range --total 1 --consistency x":                                   "consistency must be",
		"txn-put --key-space-size 2 --txn-ops 3":                            "at most key-space-size",
		"update --key-space-size 2 --clients 3":                             "at least the number of clients",
	} {
		_, err := hwbench(t, append(strings.Fields(line), "--endpoints="+endpoint)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", line, err, want)
		}
	}
	if _, err := c.Put(t.Context(), "/hwbench/stranger", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := hwbench(t, "fill", "--key-space-size=20", "--endpoints="+endpoint); err == nil ||
		!strings.Contains(err.Error(), "holds 21 keys") {
		t.Errorf("fill did not count: %v", err)
	}
}

// TestDefaults checks that no command's defaults leak into another.
func TestDefaults(t *testing.T) {
	var out bytes.Buffer
	for _, cmd := range New(&out).Commands() {
		want := map[string]string{"watch-latency": "100", "watch-idle": "500", "watch-isolation": "500"}[cmd.Name()]
		if want == "" {
			want = "0"
		}
		for _, name := range []string{"rate", "put-rate"} {
			if f := cmd.Flags().Lookup(name); f != nil && f.Value.String() != want {
				t.Errorf("%s --%s is %s, want %s", cmd.Name(), name, f.Value, want)
			}
		}
	}
}
