package pods

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/status"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// TestRoster: any pod tells which pods exist, whether they are ready, and which pod leads which election. Every
// election has a leader, which is an existing pod. A pod that drains is not ready, and a pod that has ended is not
// listed.
func TestRoster(t *testing.T) {
	const per = 2
	d := deploy(t, per)
	socket := filepath.Join(t.TempDir(), "a")
	d.Configure = func(k config.Kind, i int, c *config.Config) {
		if k == config.KV && i == 0 {
			c.ListenAdminURLs = []string{"unix://" + socket}
			c.ListenStatusURLs = []string{"http://127.0.0.1:0"}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d.startAll()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := adminv1.NewDeploymentClient(conn)
	until := func(what string, cond func() bool) {
		t.Helper()
		for !cond() {
			if ctx.Err() != nil {
				t.Fatal("timed out waiting:", what)
			}
		}
	}
	list := func() (states []string, leads map[string]string) {
		t.Helper()
		a, err := c.Pods(ctx, &adminv1.PodsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		leads = make(map[string]string)
		for _, p := range a.GetPods() {
			states = append(states, fmt.Sprint(p.GetPod().GetName(), " ", p.GetPod().GetReady() && !p.GetLate()))
			for _, l := range p.GetLeads() {
				if leads[l] != "" {
					t.Errorf("%s and %s lead %s", leads[l], p.GetPod().GetName(), l)
				}
				leads[l] = p.GetPod().GetName()
			}
			if p.GetPod().GetVersion() == "" || p.GetPod().GetKeyspace() != config.DefaultKeyspace {
				t.Errorf("%v", p)
			}
		}
		return states, leads
	}
	var want []string
	for _, k := range []config.Kind{config.KV, config.LeaseKeeper, config.WatchHub} {
		for i := range per {
			want = append(want, fmt.Sprint(k, "-", i, " true"))
		}
	}
	until("all pods are ready", func() bool { s, _ := list(); return slices.Equal(s, want) })
	const shards = 16
	until("all places are taken by those who may", func() bool {
		_, leads := list()
		for place, kind := range map[string]config.Kind{
			"compactor": config.KV, "tailer": config.WatchHub, "lease shard 0": config.LeaseKeeper, "lease shard 15": config.LeaseKeeper,
		} {
			if !strings.HasPrefix(leads[place], string(kind)) {
				return false
			}
		}
		return len(leads) == shards+2
	})
	e, err := c.Elections(ctx, &adminv1.ElectionsRequest{})
	if err != nil || len(e.GetElections()) != shards+2 {
		t.Errorf("elections %v, %v", e, err)
	}
	v, err := c.Version(ctx, &adminv1.VersionRequest{})
	if err != nil || v.GetKind() != string(config.KV) || v.GetName() != "kv-0" || v.GetVersion() == "" {
		t.Errorf("version %v, %v", v, err)
	}
	showsPods(t, d, want)
	hub := d.Node(config.WatchHub, 1)
	hub.Drain(ctx)
	until("a pod that drains is not ready", func() bool {
		s, _ := list()
		return slices.Contains(s, "watchhub-1 false") || !slices.ContainsFunc(s, isOf("watchhub-1"))
	})
	if err := hub.Close(); err != nil {
		t.Fatal(err)
	}
	if s, _ := list(); len(s) != len(want)-1 || slices.ContainsFunc(s, isOf("watchhub-1")) {
		t.Errorf("pods %v after the end of watchhub-1", s)
	}
}

// showsPods checks that the status page of a pod shows all pods with their numbers. It also checks that the page shows
// keys, including those that the pod gets from other pods.
func showsPods(t *testing.T, d *deployment, pods []string) {
	t.Helper()
	url := d.Node(config.KV, 0).(*compose.Server).StatusURLs()[0] + "/status/"
	get := func(path string) []byte {
		t.Helper()
		r, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v: %s", path, r.StatusCode, err, b)
		}
		return b
	}
	var o status.Overview
	if err := json.Unmarshal(get("overview.json"), &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Pods) != len(pods) || len(o.Vacant) > 0 || len(o.Problems) > 0 {
		t.Errorf("%d pods, vacant %q, problems %q", len(o.Pods), o.Vacant, o.Problems)
	}
	for _, p := range o.Pods {
		if p.Numbers == nil || p.Numbers.Hub != (p.Kind == string(config.WatchHub)) || p.Numbers.KeyspacesOpen != 1 {
			t.Errorf("%s says %+v", p.Name, p.Numbers)
		}
	}
	get("keyspaces/" + config.DefaultKeyspace + "/tail")
	get("keyspaces/" + config.DefaultKeyspace + "/")
}

func isOf(pod string) func(string) bool {
	return func(state string) bool { return strings.HasPrefix(state, pod+" ") }
}
