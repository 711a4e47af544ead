package valueload

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/headwaterdb/headwater/bench/watchload"
	"github.com/headwaterdb/headwater/libs/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

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
	o.Keys, o.ValSize, o.Conns, o.Clients, o.Repeat = 20, 600, 2, 4, 2
	o.Rest, o.Warmup, o.Duration, o.Settle = 50*time.Millisecond, 10*time.Millisecond, 500*time.Millisecond, 0
	return o
}

// TestLoads runs each load at small scale against a real etcd: its own checks must pass, and its values must be there.
func TestLoads(t *testing.T) {
	endpoint := startEtcd(t)
	profiled := filepath.Join(t.TempDir(), "cpu.pprof")
	removal := []string{Time, TimeMax, PutMax, PutP99, PutP50Before, PutP99Before}
	for _, tt := range []struct {
		name   string
		run    func(context.Context, Options) (watchload.Result, error)
		change func(*Options)
		values []string // must be above zero
	}{
		{"delete", Delete, func(*Options) {}, removal},
		{"revoke", Revoke, func(o *Options) { o.Repeat, o.Profile = 1, profiled }, removal},
		{"compact", Compact, func(o *Options) { o.Repeat = 1 }, removal},
		{"fill", Fill, func(*Options) {}, nil},
		{"memory", DeleteMemory, func(*Options) {}, []string{RSSBefore, RSSPeak}},
		{"fill again", Fill, func(*Options) {}, nil},
		{"memory with previous values", DeleteMemory, func(o *Options) { o.PrevKV = true }, []string{RSSBefore, RSSPeak}},
		{"update", Update, func(*Options) {}, []string{PerSecond, P50, P99}},
		{"create", Create, func(*Options) {}, []string{PerSecond, P50, P99}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := smallOptions(endpoint)
			tt.change(&o)
			for {
				res, err := tt.run(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				missing := slices.DeleteFunc(slices.Clone(tt.values), func(v string) bool { return res.Values[v] > 0 })
				if len(missing) == 0 {
					return
				}
				if o.Duration > longestWindow {
					t.Fatalf("without %v: %v", missing, res.Values)
				}
				// On a busy machine nothing may have been answered within a short window.
				o.Endpoint = startEtcd(t)
				o.Rest, o.Warmup, o.Duration = 4*o.Rest, 4*o.Warmup, 4*o.Duration
			}
		})
	}
	if st, err := os.Stat(profiled); err != nil || st.Size() == 0 {
		t.Errorf("the profile: %v", err)
	}
}

// TestFailures checks that loads notice answers that are not as they expect.
func TestFailures(t *testing.T) {
	endpoint := startEtcd(t)
	c, err := dial(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	o := smallOptions(endpoint)
	if _, err := DeleteMemory(t.Context(), o); err == nil || !strings.Contains(err.Error(), "0 keys were deleted") {
		t.Errorf("a delete of nothing: %v", err)
	}
	if _, err := c.Put(t.Context(), prefix+"stranger", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Delete(t.Context(), o); err == nil || !strings.Contains(err.Error(), "21 keys were deleted, not 20") {
		t.Errorf("a delete of too much: %v", err)
	}
	for _, change := range []func(*Options){
		func(o *Options) { o.ServerPID = 0 }, func(o *Options) { o.Keys = 0 }, func(o *Options) { o.ValSize = 0 },
		func(o *Options) { o.Conns = o.Clients + 1 },
		func(o *Options) { o.Repeat = 0 }, func(o *Options) { o.Duration = 0 }, func(o *Options) { o.Endpoint = "" },
	} {
		bad := o
		change(&bad)
		if _, err := Delete(t.Context(), bad); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
}

// TestCount checks what a watcher must have seen.
func TestCount(t *testing.T) {
	deleted := func(prev string) *clientv3.Event {
		ev := &clientv3.Event{Type: clientv3.EventTypeDelete}
		if prev != "" {
			ev.PrevKv = &mvccpb.KeyValue{Value: []byte(prev)}
		}
		return ev
	}
	for name, tt := range map[string]struct {
		events []*clientv3.Event
		prev   bool
		want   string
	}{
		"all":              {events: []*clientv3.Event{deleted(""), deleted("")}},
		"too few":          {events: []*clientv3.Event{deleted("")}, want: "1 events of 2"},
		"a put":            {events: []*clientv3.Event{{Type: clientv3.EventTypePut}}, want: "of type"},
		"with values":      {events: []*clientv3.Event{deleted("abc"), deleted("abc")}, prev: true},
		"without a value":  {events: []*clientv3.Event{deleted("abc"), deleted("")}, prev: true, want: "without its previous value"},
		"with a cut value": {events: []*clientv3.Event{deleted("ab")}, prev: true, want: "without its previous value"},
	} {
		t.Run(name, func(t *testing.T) {
			events := make(chan clientv3.WatchResponse, 1)
			events <- clientv3.WatchResponse{Events: tt.events}
			close(events)
			err := count(&Options{Keys: 2, ValSize: 3, PrevKV: tt.prev}, events)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// TestRemovalValues checks which puts of the other client count for what.
func TestRemovalValues(t *testing.T) {
	begin := time.Now()
	put := func(from, to int) span {
		return span{begin.Add(time.Duration(from) * time.Millisecond), begin.Add(time.Duration(to) * time.Millisecond)}
	}
	got := removalValues([]sample{{begin: begin, end: begin.Add(100 * time.Millisecond), puts: []span{
		put(-30, -20), put(-19, -10), put(-5, 50), put(51, 90), put(91, 130), put(131, 190), put(900, 990),
		put(1500, 3000),
	}}, {begin: begin, end: begin.Add(2 * time.Second), puts: []span{put(1500, 1800)}}})
	want := map[string]float64{
		Time: 0.1, TimeMax: 2, PutMax: 0.055, PutP99: 0.3, PutP50Before: 0.009, PutP99Before: 0.01,
	}
	for name, v := range want {
		if math.Abs(got[name]-v) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, got[name], v)
		}
	}
	if q := quantile([]float64{4, 1, 3, 2}, 0.5); q != 2 {
		t.Errorf("the median of 1…4 is %v", q)
	}
	if q := quantile(nil, 0.5); q != 0 {
		t.Errorf("the median of no values is %v", q)
	}
}
