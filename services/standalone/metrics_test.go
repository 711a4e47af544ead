package main

import (
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// TestWriteMetrics: the metrics of writes are there and move, and the line about a slow request says where its time
// went.
func TestWriteMetrics(t *testing.T) {
	p := start(t, filepath.Join(t.TempDir(), "d"), "--warning-unary-request-duration=1ns")
	c := p.client(t)
	names := []string{
		"write_wait_seconds_count", "group_evaluation_seconds_count", "group_commit_seconds_count",
		"group_requests_sum", "group_bytes_sum",
	}
	before := p.numbers(t, names)
	if err := put(t, c, "key", "value"); err != nil {
		t.Fatal(err)
	}
	after := p.numbers(t, names)
	for i, name := range names {
		if after[i] <= before[i] {
			t.Errorf("%s is %v after a put, was %v", name, after[i], before[i])
		}
	}
	p.numbers(t, []string{
		"write_queue_requests", "write_queue_bytes", "write_blocked_requests", "write_blocked_keys",
		"write_oldest_seconds", "write_blocked_seconds_count",
		`group_retries_total{class="conflict"}`, `group_unknown_outcomes_total{outcome="lost"}`,
	})
	line := regexp.MustCompile(`"slow request","method":"etcdserverpb.KV/Put",.*"receiving":".*","queue":".*",` +
		`"evaluation":".*","commit":".*"`)
	eventually(t, "logged", func() bool { return line.MatchString(p.out.String()) })
}

// numbers returns Headwater's metrics of these names.
func (p *process) numbers(t *testing.T, names []string) []float64 {
	t.Helper()
	resp, err := http.Get(p.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	found := make([]float64, len(names))
	for i, name := range names {
		m := regexp.MustCompile(`(?m)^headwater_` + regexp.QuoteMeta(name) + ` (.*)$`).FindSubmatch(body)
		if m == nil {
			t.Errorf("no %s", name)
			continue
		}
		if found[i], err = strconv.ParseFloat(string(m[1]), 64); err != nil {
			t.Error(name, err)
		}
	}
	return found
}
