package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/headwaterdb/headwater/libs/status"
)

// busy is an overview in which there is something of everything, some of it hostile.
func busy() *status.Overview {
	rate, since := 12.5, time.Unix(1_799_999_000, 0)
	usage := []status.KeyspaceUsage{{Name: "team-a", ReadsPerSecond: &rate, WritesPerSecond: &rate, Bytes: 5 << 20}}
	pod := func(name, kind string, n *status.Numbers) status.Pod {
		return status.Pod{Kind: kind, Name: name, Ready: true, Started: since, Version: "9.9", Numbers: n}
	}
	ill := pod("ill\x1b[31m\u202e", "kv", nil)
	ill.Ready, ill.Reason = false, "the store\r\nis \x07away"
	numbers := &status.Numbers{Hub: true, Revision: 1000, HubRevision: 990, Watchers: 12345, Slow: 3}
	hub := pod("hub-1", "watchhub", numbers)
	hub.Leads = []string{"tailer"}
	return &status.Overview{
		Time: time.Unix(1_800_000_000, 0), WindowSeconds: 14,
		Process: status.Process{Name: "one", Kind: "kv", Version: "9.9"},
		Store:   status.Store{Revision: 1234567, CompactRevision: 1000, Keys: 7, BytesInUse: 3 << 30},
		Rates:   status.Rates{Reads: &rate}, Watches: status.Watches{Watchers: 9, Slow: 2, LagSeconds: 70},
		Latencies: []status.Latency{{Of: "Put", Count: 99, P50: .001, P99: .25}},
		Pods:      []status.Pod{hub, ill},
		Troubles:  []string{"Alarm \x1b]0;NOSPACE."}, Problems: []string{"keyspaces: away"},
		Certificates: []status.Certificate{{Use: "client", Kind: "certificate", Days: 3}},
		Work: []status.Work{
			{Kind: "compaction", Keyspace: "team-a", Done: 250, Total: 1000, Unit: "revisions", PerSecond: &rate},
			{Kind: "deletion", Keyspace: "gone", Done: 20000, Unit: "rows", Since: &since},
			{Kind: "reclaim", Done: 7 << 20, Unit: "bytes left"},
		},
		Keyspaces: status.KeyspacesPart{Counted: true, Total: 1000, ByRate: usage, BySize: usage},
	}
}

// TestScreen: at any width no line is longer, and nothing is written that a terminal would obey; what matters stays.
func TestScreen(t *testing.T) {
	for width := 1; width <= 200; width++ {
		text := screenOf(busy(), width, width%2 == 0)
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if length(line) > width {
				t.Fatalf("at %d: %q", width, line)
			}
			if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Fatalf("at %d: %q", width, line)
			}
		}
	}
	for width, parts := range map[int][]string{
		120: {
			"one kv   Headwater 9.9", "! Alarm ?]0;NOSPACE.", "! keyspaces: away", "reads 12.5/s",
			"1 234 567, compacted to 1 000",
			"watchers 9, 2 slow by 70.0 s", "compaction  team-a", "25 %", "for 16 min 40 s", "7.00 MiB left", "1.00 ms",
			"tailer", "not ready: the store??is ?away", "12 345", "team-a", "and 999 more", "certificate", "3.0",
		},
		50: {"compaction", "25 %", "Put", "250 ms", "hub-1", "12 345", "team-a", "5.00 MiB"},
	} {
		text := screenOf(busy(), width, false)
		for _, p := range parts {
			if !strings.Contains(text, p) {
				t.Errorf("at %d there is no %q:\n%s", width, p, text)
			}
		}
	}
	if text := screenOf(&status.Overview{}, 80, false); !strings.Contains(text, "never compacted") {
		t.Errorf("of nothing: %s", text)
	}
}

// serve serves overviews on a unix socket, as a server does, and returns its path.
func serve(t *testing.T, answer func(http.ResponseWriter)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/status/overview.json" || r.Host != "localhost" {
			http.NotFound(w, r)
			return
		}
		answer(w)
	}))
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// TestTopOnce: where there is no terminal there is one snapshot, in any format; what answers otherwise is told.
func TestTopOnce(t *testing.T) {
	good := serve(t, func(w http.ResponseWriter) { _ = json.NewEncoder(w).Encode(busy()) })
	bad := serve(t, func(w http.ResponseWriter) { http.Error(w, "no \x1b[31m page", http.StatusForbidden) })
	odd := serve(t, func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) })
	call := func(args ...string) (out, errOut string, code int) {
		var o, e strings.Builder
		code = run(args, &o, &e)
		return o.String(), e.String(), code
	}
	out, errOut, code := call("top", "--endpoints", bad+","+good)
	if code != exitOK || errOut != "" || strings.Contains(out, "\x1b") || !strings.Contains(out, "hub-1") {
		t.Errorf("%d, %q, %q", code, errOut, out)
	}
	out, _, code = call("top", "--endpoints", good, "-w", "json")
	var o status.Overview
	if err := json.Unmarshal([]byte(out), &o); err != nil || code != exitOK || len(o.Pods) != 2 {
		t.Errorf("%d, %v, %q", code, err, out)
	}
	for endpoint, want := range map[string]int{
		bad: exitError, odd: exitError, filepath.Join(t.TempDir(), "none"): exitBadConnection,
	} {
		out, errOut, code := call("top", "--endpoints", endpoint)
		if code != want || out != "" || !strings.HasPrefix(errOut, "Error: ") || strings.Contains(errOut, "\x1b") {
			t.Errorf("%s: %d, %q, %q", endpoint, code, out, errOut)
		}
	}
	if _, errOut, code := call("top", "--endpoints", good, "--interval", "1ms"); code != exitBadArgs || errOut == "" {
		t.Errorf("an interval that is none: %d, %q", code, errOut)
	}
}

// TestPress: keys do what the help says.
func TestPress(t *testing.T) {
	var p top
	if p.press('x') || p.press(' ') || !p.paused || p.press(' ') || p.paused || p.press('s') || !p.bySize {
		t.Errorf("%+v", p)
	}
	for _, key := range []byte{'q', 3, 27} {
		if !p.press(key) {
			t.Errorf("%q does not end it", key)
		}
	}
}
