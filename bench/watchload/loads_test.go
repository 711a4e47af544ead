package watchload

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) {
	leaktest.Main(m)
}

func startEtcd(t *testing.T) (endpoint string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.UnsafeNoFsync = true
	cfg.EnablePprof = true
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
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return e.Clients[0].Addr().String()
}

// longestWindow is the longest window that a load gets, on a busy machine.
const longestWindow = 30 * time.Second

func smallOptions(endpoint string) Options {
	o := DefaultOptions()
	o.Endpoint, o.ServerPID = endpoint, os.Getpid()
	o.Conns, o.Streams, o.Watchers, o.Clients, o.Keys = 2, 4, 20, 5, 7
	o.Warmup, o.Duration, o.Settle = 50*time.Millisecond, 200*time.Millisecond, 0
	o.Beside, o.BesideStreams, o.History = 30, 3, 50
	return o
}

// TestLoads runs each load at small scale against a real etcd: its own checks must pass, and its values must be there.
func TestLoads(t *testing.T) {
	endpoint := startEtcd(t)
	for _, tt := range []struct {
		name   string
		run    func(context.Context, Options) (Result, error)
		change func(*Options)
		values []string // must be above zero
	}{
		{"fan", Fan, func(o *Options) { o.Rate = 200 }, []string{EventsPerSecond, WritesPerSecond, EventP50, EventP99, PutP50, PutP99, RSSMax}},
		{"fan without prev", Fan, func(o *Options) { o.PrevKV = false }, []string{EventsPerSecond, EventP99}},
		{"one watcher", Fan, func(o *Options) { o.Conns, o.Streams, o.Watchers, o.Rate = 1, 1, 1, 500 }, []string{EventP50}},
		{"own keys", Fan, func(o *Options) { o.OwnKey, o.Sparse, o.Streams, o.Watchers = true, true, 2, 14 }, []string{EventsPerSecond, EventP50}},
		{"only writes", Fan, func(o *Options) { o.Watchers = 0 }, []string{WritesPerSecond, PutP50}},
		{"memory", Memory, func(o *Options) { o.Pprof = true }, []string{RSSMax, CreateAll}},
		{"memory without pprof", Memory, func(*Options) {}, []string{RSSMax}},
		{"reconnect", Reconnect, func(*Options) {}, []string{LiveAll, LiveMedian, CreateAll, HistoryRate}},
		{"stalled", Stalled, func(*Options) {}, []string{WithBeside, WithoutBeside, BesideRatio, CPURatio}},
		{"isolation", Isolation, func(o *Options) { o.Rate = 100 }, []string{WithBeside, WithoutBeside, WritesRatio, BehindRead, Lists, CreateAll}},
		{"idle", Idle, func(o *Options) { o.Rate = 100 }, []string{EventP99}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := smallOptions(endpoint)
			tt.change(&o)
			for {
				res, err := tt.run(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				var b strings.Builder
				if err := res.WriteText(&b); err != nil || !strings.Contains(b.String(), tt.values[0]) {
					t.Errorf("text %q, %v", b.String(), err)
				}
				missing := slices.DeleteFunc(slices.Clone(tt.values), func(v string) bool { return res.Values[v] > 0 })
				if len(missing) == 0 {
					return
				}
				if o.Duration > longestWindow {
					t.Fatalf("without %v: %v", missing, res.Values)
				}
				// On a busy machine nothing may have been answered within a short window.
				o.Warmup, o.Duration = 4*o.Warmup, 4*o.Duration
			}
		})
	}
}

// TestStranger checks that a load notices a write that is not its own.
func TestStranger(t *testing.T) {
	endpoint := startEtcd(t)
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _ = c.Put(ctx, prefix+"stranger", "too short")
		}
	}()
	// On a busy machine a short window may have no write of the other client's.
	for o := smallOptions(endpoint); err == nil && o.Duration <= longestWindow; o.Duration *= 4 {
		_, err = Fan(t.Context(), o)
	}
	cancel()
	<-ended
	if err == nil {
		t.Error("a load passed although another client wrote its keys")
	}
}

func TestOptions(t *testing.T) {
	good := smallOptions("127.0.0.1:1")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no pid": func(o *Options) { o.ServerPID = 0 }, "no conns": func(o *Options) { o.Conns = 0 }, "uneven": func(o *Options) { o.Watchers = 21 },
		"uneven beside": func(o *Options) { o.Beside = 31 }, "small values": func(o *Options) { o.ValSize = 7 }, "negative rate": func(o *Options) { o.Rate = -1 },
		"uneven keys": func(o *Options) { o.OwnKey = true }, "no window": func(o *Options) { o.Duration = 0 },
	} {
		o := good
		change(&o)
		if o.Validate() == nil {
			t.Errorf("%s passed", name)
		}
	}
	o := good
	o.History = 19
	if _, err := Reconnect(t.Context(), o); err == nil || !strings.Contains(err.Error(), "nothing to catch up") {
		t.Errorf("short history: %v", err)
	}
	if _, err := Isolation(t.Context(), good); err == nil || !strings.Contains(err.Error(), "takes a rate") {
		t.Errorf("isolation without a rate: %v", err)
	}
	o = good
	o.Rate = 1
	if _, err := Stalled(t.Context(), o); err == nil || !strings.Contains(err.Error(), "nothing to measure") {
		t.Errorf("stalled at a rate: %v", err)
	}
}

func TestParseLive(t *testing.T) {
	got, err := parseLive("heap profile: 1: 2 [3: 4] @ heap/1048576\n# runtime.MemStats\n# HeapAlloc = 1000\n# " +
		"HeapSys = 9\n# Stack = 24 / 48\n")
	if err != nil || got != 1024 {
		t.Errorf("%v, %v; want 1024", got, err)
	}
	for _, bad := range []string{"", "# HeapAlloc = 1\n", "# HeapAlloc = x\n# Stack = 1 / 2\n"} {
		if _, err := parseLive(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}
