package metrics

import (
	"context"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

// families are metrics by name.
type families map[string]*dto.MetricFamily

// scrape reads a server's metrics.
func scrape(t *testing.T, url string) families {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	f, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// startEtcd and startHeadwater start a server and return its client URL.
func startEtcd(t *testing.T) string {
	t.Helper()
	e, err := refetcd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Remove)
	return "http://" + e.Addr()
}

func startHeadwater(t *testing.T, args ...string) string {
	t.Helper()
	p, err := config.Standalone.Parse(append(args, "--data-dir", t.TempDir(), "--listen-client-urls",
		"http://127.0.0.1:0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := compose.Start(t.Context(), config.Standalone, p.Config, embedded.Parts(2*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.URL()
}

// use makes some requests of every kind, one after the other.
func use(t *testing.T, url string) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{url}, DialTimeout: 2 * time.Minute, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	watching, stop := context.WithCancel(ctx)
	events := c.Watch(watching, "k", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if r := <-events; !r.Created {
		t.Fatal("not created")
	}
	for _, k := range []string{"k1", "k2", "k3", "k4"} {
		must(c.Put(ctx, k, "v"))
		<-events
	}
	must(c.Delete(ctx, "k4"))
	<-events
	stop()
	must(c.Get(ctx, "k1"))
	if _, err := c.Get(ctx, "k1", clientv3.WithRev(1000)); err == nil {
		t.Fatal("a read at a future revision succeeded")
	}
	must(c.Txn(ctx).If(clientv3.Compare(clientv3.Version("k1"), ">", 0)).Then(clientv3.OpPut("k1", "w")).Commit())
	must(c.Txn(ctx).Then(clientv3.OpGet("k1")).Commit())
	l, err := c.Grant(ctx, 1000)
	must(nil, err)
	must(c.KeepAliveOnce(ctx, l.ID))
	must(c.Revoke(ctx, l.ID))
	must(c.Compact(ctx, 3, clientv3.WithCompactPhysical()))
	members, err := c.MemberList(ctx)
	must(nil, err)
	_, err = pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, MemberID: members.Members[0].ID, Alarm: pb.AlarmType_CORRUPT,
	})
	must(nil, err)
}

var (
	omitted = regexp.MustCompile("(?s)<!-- metrics: begin[^>]*-->\n(.*)<!-- metrics: end -->")
	quoted  = regexp.MustCompile("`([a-z_]+)`")
	// withPeers are names that an etcd shows only if it has peers, or after the event has occurred.
	withPeers = regexp.MustCompile(
		`^etcd_network_|^etcd_server_learner_promote_failures$|^etcd_debugging_store_(reads|writes)_`,
	)
)

// documented returns the names that docs/compatibility.md lists as missing.
func documented(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	section := omitted.FindSubmatch(b)
	if section == nil {
		t.Fatal("docs/compatibility.md has no section of metrics")
	}
	var names []string
	for line := range strings.Lines(string(section[1])) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range quoted.FindAllStringSubmatch(first, -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// labelNames are the names of the labels of a family, sorted.
func labelNames(f *dto.MetricFamily) []string {
	names := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// bounds returns the upper bounds of the first histogram of a family.
func bounds(f *dto.MetricFamily) (b []float64) {
	for _, bucket := range f.GetMetric()[0].GetHistogram().GetBucket() {
		b = append(b, bucket.GetUpperBound())
	}
	return b
}

// compared reports whether a metric is etcd's own. Others depend on the release of the Go runtime.
func compared(name string) bool {
	return !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_")
}

// TestLikeEtcd compares the metrics of a server and of an etcd after the same requests.
func TestLikeEtcd(t *testing.T) {
	urls := [2]string{startEtcd(t), startHeadwater(t, "--quota-backend-bytes=2147483648")}
	for _, url := range urls {
		use(t, url)
	}
	etcd, ours := scrape(t, urls[0]), scrape(t, urls[1])
	left := documented(t)
	for name, f := range etcd {
		mine, ok := ours[name]
		switch listed := slices.Contains(left, name); {
		case ok && listed:
			t.Errorf("%s is there, and docs/compatibility.md says that it is not", name)
		case !ok && !listed:
			t.Errorf("%s is missing, and docs/compatibility.md does not say why", name)
		case !ok || !compared(name):
		case f.GetType() != mine.GetType() || !slices.Equal(labelNames(f), labelNames(mine)):
			t.Errorf("%s: %v with labels %q, want %v with %q", name, mine.GetType(), labelNames(mine), f.GetType(),
				labelNames(f))
		case f.GetType() == dto.MetricType_HISTOGRAM && !slices.Equal(bounds(f), bounds(mine)):
			t.Errorf("%s: buckets %v, want %v", name, bounds(mine), bounds(f))
		}
	}
	for _, name := range left {
		if _, ok := etcd[name]; !ok && !withPeers.MatchString(name) {
			t.Errorf("docs/compatibility.md leaves out %s, which etcd does not have", name)
		}
	}
	compareValues(t, etcd, ours)
}

// compareValues compares the metrics that must be equal after the same requests, and those that are constant.
func compareValues(t *testing.T, etcd, ours families) {
	for _, c := range []struct {
		name string
		// with is a label and the value that series must have; "" stands for all series.
		with [2]string
		// only says that only the presence of series is compared, not their values.
		only bool
	}{
		{name: "etcd_cluster_version"},
		{name: "etcd_server_version"},
		{name: "etcd_server_has_leader"},
		{name: "etcd_server_is_leader"},
		{name: "etcd_server_is_learner"},
		{name: "etcd_server_quota_backend_bytes"},
		{name: "etcd_debugging_mvcc_current_revision"},
		{name: "etcd_debugging_mvcc_compact_revision"},
		{name: "etcd_mvcc_put_total"},
		{name: "etcd_mvcc_delete_total"},
		{name: "grpc_server_started_total", with: [2]string{"grpc_service", "etcdserverpb.KV"}},
		{name: "grpc_server_handled_total", with: [2]string{"grpc_service", "etcdserverpb.KV"}},
		{name: "grpc_server_handled_total", with: [2]string{"grpc_service", "etcdserverpb.Auth"}},
		{name: "grpc_server_msg_received_total", with: [2]string{"grpc_service", "etcdserverpb.KV"}},
		// etcd counts an error as a sent message, and the end of a stream as a received one, so these are not
		// compared.
		{name: "grpc_server_msg_sent_total", with: [2]string{"grpc_method", "Put"}},
		{name: "grpc_server_msg_sent_total", with: [2]string{"grpc_method", "Watch"}},
		{name: "grpc_server_msg_sent_total", with: [2]string{"grpc_service", "etcdserverpb.Lease"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "Range"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "Put"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "Txn"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "ReadonlyTxn"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "DeleteRange"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "Compaction"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "LeaseGrant"}},
		{name: "etcd_server_request_duration_seconds", with: [2]string{"type", "LeaseRevoke"}},
		{name: "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds"},
		{name: "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds"},
		{name: "grpc_server_handled_total", only: true},
	} {
		want, got := values(etcd[c.name], c.with, c.only), values(ours[c.name], c.with, c.only)
		if len(want) == 0 {
			t.Errorf("etcd has no %s with %v", c.name, c.with)
		}
		if c.only { // services that etcd does not have do not matter
			maps.DeleteFunc(got, func(key string, _ float64) bool { _, ok := want[key]; return !ok })
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %v: %s", c.name, c.with, diff)
		}
	}
	for name, want := range map[string]float64{"etcd_debugging_mvcc_keys_total": 3} {
		if got := values(ours[name], [2]string{}, false)[""]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"os_fd_used", "os_fd_limit", "etcd_server_range_duration_seconds"} {
		for labels, v := range values(ours[name], [2]string{}, false) {
			if v <= 0 {
				t.Errorf("%s%s is %v", name, labels, v)
			}
		}
	}
}

// values returns the values of series, or the counts of histograms, by their labels.
func values(f *dto.MetricFamily, with [2]string, only bool) map[string]float64 {
	all := map[string]float64{}
	for _, m := range f.GetMetric() {
		var labels []string
		found := with[0] == ""
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
			found = found || l.GetName() == with[0] && l.GetValue() == with[1]
		}
		slices.Sort(labels)
		if !found {
			continue
		}
		v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		if only {
			v = 0
		}
		all[strings.Join(labels, ",")] = v
	}
	return all
}

// TestNoQuota: without a quota there is no series of the quota, so that no expression divides by 0.
func TestNoQuota(t *testing.T) {
	for _, args := range [][]string{nil, {"--quota-backend-bytes=-1"}} {
		if f := scrape(t, startHeadwater(t, args...)); f["etcd_server_quota_backend_bytes"] != nil {
			t.Errorf("%q: there is a quota", args)
		}
	}
}
