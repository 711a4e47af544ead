package pods

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// writeMetrics are the metrics about writes that every pod has.
var writeMetrics = []string{
	"headwater_write_queue_requests", "headwater_write_queue_bytes", "headwater_write_blocked_requests",
	"headwater_write_blocked_keys", "headwater_write_oldest_seconds",
	"headwater_write_wait_seconds_count", "headwater_write_blocked_seconds_count",
	"headwater_group_evaluation_seconds_count", "headwater_group_commit_seconds_count",
	"headwater_group_requests_sum", "headwater_group_bytes_sum",
	`headwater_group_retries_total{class="conflict"}`, `headwater_group_unknown_outcomes_total{outcome="committed"}`,
}

// writeNumbers scrapes the writeMetrics of a pod, all of which must be there.
func (d *deployment) writeNumbers(k config.Kind) map[string]float64 {
	d.t.Helper()
	code, body := d.get(k, 0, "/metrics")
	if code != 200 {
		d.t.Fatalf("%s: %d %s", k, code, body)
	}
	found := map[string]float64{}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			found[name] = v
		}
	}
	for _, name := range writeMetrics {
		if _, ok := found[name]; !ok {
			d.t.Errorf("%s has no %s", k, name)
		}
	}
	return found
}

// logged collects a log.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestWriteMetrics: pods of all kinds have the metrics about writes. They change on the pod that writes, whose log line
// about a slow request says where the time went.
func TestWriteMetrics(t *testing.T) {
	d := deploy(t, 1)
	var log logged
	d.Parts.Log = slog.New(slog.NewTextHandler(&log, nil))
	d.Configure = func(_ config.Kind, _ int, c *config.Config) { c.WarningUnaryRequestDuration = time.Nanosecond }
	d.startAll()
	for _, c := range []struct {
		kind   config.Kind
		method string
		write  func() error
	}{
		{config.KV, "etcdserverpb.KV/Put", func() error {
			_, err := d.client(d.Endpoints(config.KV)...).Put(d.context(), "key", "value")
			return err
		}},
		{config.LeaseKeeper, "etcdserverpb.Lease/LeaseGrant", func() error {
			_, err := d.client(d.Endpoints(config.LeaseKeeper)...).Grant(d.context(), 60)
			return err
		}},
	} {
		before := d.writeNumbers(c.kind)
		if err := c.write(); err != nil {
			t.Fatal(err)
		}
		after := d.writeNumbers(c.kind)
		for _, name := range []string{
			"headwater_write_wait_seconds_count", "headwater_group_evaluation_seconds_count",
			"headwater_group_commit_seconds_count", "headwater_group_requests_sum", "headwater_group_bytes_sum",
		} {
			if after[name] <= before[name] {
				t.Errorf("%s: %s is %v after a write, was %v", c.kind, name, after[name], before[name])
			}
		}
		line := regexp.MustCompile(fmt.Sprintf(`"slow request" method=%s .* queue=\S+ .*evaluation=\S+ commit=\S+`,
			c.method))
		eventually(t, "logged", func() bool { return line.MatchString(log.String()) })
	}
	d.writeNumbers(config.WatchHub)
	for _, k := range pods.Kinds {
		if n := d.writeNumbers(k)["headwater_write_queue_requests"]; n != 0 {
			t.Errorf("%s: %v requests wait, and nobody writes", k, n)
		}
	}
}
