package clients

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestHTTP: the client port serves health, version and metrics.
func TestHTTP(t *testing.T) {
	s := start(t)
	c := client(t, s)
	if _, err := c.Put(timeout(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		method, path string
		code         int
		body         string // not compared if empty
	}{
		{"GET", "/health", 200, `{"health":"true","reason":""}`},
		{"GET", "/health?serializable=true", 200, `{"health":"true","reason":""}`},
		{"GET", "/health?exclude=NOSPACE", 200, `{"health":"true","reason":""}`},
		{"POST", "/health", 405, ""},
		{"HEAD", "/health", 405, ""},
		{"GET", "/livez", 200, "ok\n"},
		{"GET", "/readyz", 200, "ok\n"},
		{"GET", "/livez/serializable_read", 200, "ok\n"},
		{"GET", "/readyz/linearizable_read", 200, "ok\n"},
		{"GET", "/readyz/data_corruption", 200, "ok\n"},
		{"GET", "/readyz/nonsense", 404, ""},
		{"GET", "/v2/keys", 404, ""},
	} {
		code, body := get(t, tc.method, s.URL()+tc.path)
		if code != tc.code || (tc.body != "" && body != tc.body) {
			t.Errorf("%s %s: %d %q, want %d %q", tc.method, tc.path, code, body, tc.code, tc.body)
		}
	}
	for path, checks := range map[string][]string{
		"/livez?verbose":  {"serializable_read", "ok"},
		"/readyz?verbose": {"data_corruption", "serializable_read", "linearizable_read", "ok"},
		"/readyz?verbose&exclude=linearizable_read": {"data_corruption", "serializable_read", "ok"},
	} {
		code, body := get(t, "GET", s.URL()+path)
		if code != 200 {
			t.Errorf("%s: %d", path, code)
		}
		for _, check := range checks {
			if !strings.Contains(body, check) {
				t.Errorf("%s does not name %s: %q", path, check, body)
			}
		}
	}
	_, body := get(t, "GET", s.URL()+"/version")
	var version struct {
		Server  string `json:"etcdserver"`
		Cluster string `json:"etcdcluster"`
	}
	if err := json.Unmarshal([]byte(body), &version); err != nil || strings.Count(version.Server, ".") != 2 ||
		version.Cluster == "" || strings.ContainsAny(version.Server, "-+") {
		t.Errorf("/version: %q, %v", body, err)
	}
}

// elsewhere are the lines of TestMetrics that kv pods lack. Leases belong to leasekeeper pods, disks belong to
// FoundationDB, and revisions have gaps.
var elsewhere = []string{
	"etcd_disk_", "etcd_debugging_lease_", "etcd_debugging_server_lease_", "etcd_debugging_mvcc_current_revision 2",
}

// TestMetrics: /metrics has the names that etcd's dashboards and alerts read.
func TestMetrics(t *testing.T) {
	if *sutName == "keyspace" {
		t.Skip("with several keyspaces metrics are not on the client listener: tests/keyspaces")
	}
	s := start(t)
	c, ctx := client(t, s), timeout(t)
	if _, err := c.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	<-c.Watch(ctx, "k", clientv3.WithRev(1))
	_, body := get(t, "GET", s.URL()+"/metrics")
	for _, name := range []string{
		"etcd_server_has_leader 1",
		"etcd_server_leader_changes_seen_total ",
		"etcd_server_proposals_failed_total ",
		"etcd_server_proposals_pending ",
		"etcd_server_proposals_committed_total ",
		"etcd_server_proposals_applied_total ",
		"etcd_server_version{",
		"etcd_cluster_version{",
		"etcd_mvcc_db_total_size_in_bytes ",
		"etcd_mvcc_db_total_size_in_use_in_bytes ",
		"etcd_disk_wal_fsync_duration_seconds_bucket",
		"etcd_disk_backend_commit_duration_seconds_bucket",
		"etcd_network_client_grpc_sent_bytes_total ",
		"etcd_network_client_grpc_received_bytes_total ",
		"etcd_debugging_mvcc_watcher_total ",
		"etcd_debugging_mvcc_watch_stream_total ",
		"etcd_debugging_mvcc_slow_watcher_total ",
		"etcd_debugging_mvcc_events_total ",
		"etcd_debugging_mvcc_pending_events_total ",
		"etcd_debugging_mvcc_current_revision 2",
		"etcd_debugging_mvcc_compact_revision ",
		"etcd_mvcc_range_total ",
		"etcd_mvcc_put_total 1",
		"etcd_mvcc_delete_total ",
		"etcd_mvcc_txn_total ",
		"etcd_debugging_lease_granted_total ",
		"etcd_debugging_lease_revoked_total ",
		"etcd_debugging_server_lease_expired_total ",
		"grpc_server_started_total{",
		"grpc_server_handled_total{",
		"process_resident_memory_bytes ",
		"go_goroutines ",
	} {
		if *sutName == "pods" && slices.ContainsFunc(elsewhere, func(e string) bool {
			return strings.HasPrefix(name, e)
		}) {
			continue
		}
		if !strings.Contains("\n"+body, "\n"+name) {
			t.Errorf("/metrics has no line that starts with %q", name)
		}
	}
}

func get(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(timeout(t), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
