package keyspaces

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// fetch gets a URL, over a unix socket if socket is not empty.
func fetch(t *testing.T, socket, url string) (status int, body string) {
	t.Helper()
	var d net.Dialer
	transport := &http.Transport{DisableKeepAlives: true}
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", strings.TrimPrefix(socket, "unix://"))
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

// scrape reads the metrics of the admin API's socket.
func scrape(t *testing.T, s *compose.Server) string {
	t.Helper()
	status, body := fetch(t, s.AdminURLs()[0], "http://admin/metrics")
	if status != http.StatusOK {
		t.Fatal(status, body)
	}
	return body
}

// shownIn returns the names of the keyspaces in the metrics, sorted.
func shownIn(metrics string) (names []string) {
	for _, m := range regexp.MustCompile(`headwater_keyspace_\w+\{keyspace="([^"]*)"`).FindAllStringSubmatch(metrics,
		-1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func wantMetric(t *testing.T, metrics, line string) {
	t.Helper()
	if !strings.Contains(metrics, "\n"+line+"\n") {
		lines := slices.DeleteFunc(strings.Split(metrics, "\n"), func(l string) bool {
			return !strings.HasPrefix(l, "headwater_keyspace")
		})
		t.Errorf("no %q in\n%s", line, strings.Join(lines, "\n"))
	}
}

// TestMetricsWithheld: with one keyspace the client listener serves metrics of the process, as etcd's does. Once there
// is another keyspace it serves none, whatever host a client dials. The admin socket still does.
func TestMetricsWithheld(t *testing.T) {
	s := server(t, func(c *config.Config) { c.EnablePprof = true })
	process := []string{"/metrics", "/debug/vars", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine"}
	for _, path := range process {
		if status, body := fetch(t, "", s.URL()+path); status != http.StatusOK {
			t.Errorf("%s with one keyspace: %d %s", path, status, body)
		}
	}
	a := adminOf(t, s)
	if _, err := a.Create(t.Context(), &adminv1.CreateRequest{Name: "secret-name"}); err != nil {
		t.Fatal(err)
	}
	put(t, client(t, s, "secret-name"), "k", "v")
	answers := func(want int) {
		t.Helper()
		// The server's copy of the table is a little behind.
		eventually(t, fmt.Sprint("/metrics answers ", want), func() bool {
			status, _ := fetch(t, "", s.URL()+"/metrics")
			return status == want
		})
	}
	answers(http.StatusForbidden)
	for _, path := range append(process, "/debug/", "/debug/none", "/metrics?x=y", "//metrics", "/x/../metrics") {
		status, body := fetch(t, "", s.URL()+path)
		if status == http.StatusOK || strings.Contains(body, "secret-name") || strings.Contains(body, "go_gc") {
			t.Errorf("%s with two keyspaces: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"/version", "/health", "/readyz"} {
		if status, body := fetch(t, "", s.URL()+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range process {
		if status, body := fetch(t, s.AdminURLs()[0], "http://admin"+path); status != http.StatusOK {
			t.Errorf("%s on the admin socket: %d %s", path, status, body)
		}
	}
	if _, err := a.Delete(t.Context(), &adminv1.DeleteRequest{Name: "secret-name"}); err != nil {
		t.Fatal(err)
	}
	answers(http.StatusOK) // one again
}

// TestMetricsNames: metrics show the keyspaces that the flag names, open or not, and no others.
func TestMetricsNames(t *testing.T) {
	s := server(t, func(c *config.Config) {
		c.MetricsKeyspaces.Names = []string{"a", "closed", "default", "none-such"}
	})
	for _, n := range []string{"a", "b", "closed"} {
		create(t, s, n, &keyspacev1.Keyspace{Limits: &keyspacev1.Limits{RequestBytes: 2000, Leases: 1, Watches: 1}})
	}
	a := client(t, s, "a")
	put(t, client(t, s, "b"), "k", "v")
	for i := range 3 {
		put(t, a, fmt.Sprint(i), "v")
	}
	get(t, a, "0")
	if _, err := a.Put(t.Context(), "k", strings.Repeat("v", 3000)); err == nil {
		t.Error("a request above the limit")
	}
	for range 2 {
		a.Grant(t.Context(), 1000) // the second is refused
	}
	w := a.Watch(t.Context(), "0")
	put(t, a, "0", "w")
	<-w
	m := scrape(t, s)
	if got := shownIn(m); !slices.Equal(got, []string{"a", "closed", "default"}) {
		t.Errorf("metrics tell of %v", got)
	}
	for _, line := range []string{
		`headwater_keyspaces_open 3`,
		`headwater_keyspace_open{keyspace="a"} 1`,
		`headwater_keyspace_open{keyspace="closed"} 0`,
		`headwater_keyspace_keys{keyspace="a"} 3`,
		`headwater_keyspace_reads_total{keyspace="a"} 1`,
		`headwater_keyspace_writes_total{keyspace="a"} 7`,
		`headwater_keyspace_watches{keyspace="a"} 1`,
		`headwater_keyspace_streams{keyspace="a"} 1`,
		`headwater_keyspace_leases{keyspace="a"} 1`,
		`headwater_keyspace_refused_total{keyspace="a",reason="request_too_large"} 1`,
		`headwater_keyspace_refused_total{keyspace="a",reason="too_many_requests"} 1`,
		`headwater_keyspace_refused_total{keyspace="default",reason="no_space"} 0`,
	} {
		wantMetric(t, m, line)
	}
	// The admin API's Usage shows the same numbers, for any keyspace.
	all, err := adminOf(t, s).Usage(t.Context(), &adminv1.UsageRequest{Names: []string{"a", "closed", "default"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []*adminv1.Usage{
		{Reads: 1, Writes: 7, Refused: 2, Watches: 1, Streams: 1, Active: true}, {}, {Active: true},
	} {
		got := all.GetUsage()[i]
		seen := &adminv1.Usage{
			Reads: got.GetReads(), Writes: got.GetWrites(), Refused: got.GetRefused(), Watches: got.GetWatches(),
			Streams: got.GetStreams(), Active: got.GetActive(),
		}
		if !proto.Equal(seen, want) {
			t.Errorf("usage %v, want %v", got, want)
		}
	}
}

// TestMetricsTop: metrics show as many keyspaces as the flag says, those that were busiest lately. By default they show
// none.
func TestMetricsTop(t *testing.T) {
	const n = 30
	s := server(t, func(c *config.Config) { c.MetricsKeyspaces.Top = 3 })
	c := client(t, s, "")
	use := func(name string, times int) {
		t.Helper()
		ctx := metadata.AppendToOutgoingContext(t.Context(), compose.KeyspaceMetadata, name)
		for range times {
			if _, err := c.Put(ctx, "k", "v"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range n {
		name := fmt.Sprint("k", i)
		create(t, s, name, nil)
		use(name, 1+i)
	}
	if got := shownIn(scrape(t, s)); !slices.Equal(got, []string{"k27", "k28", "k29"}) {
		t.Errorf("the busiest processes are %v", got)
	}
	for i := range 3 {
		use(fmt.Sprint("k", i), 40)
	}
	m := scrape(t, s)
	if got := shownIn(m); !slices.Equal(got, []string{"k0", "k1", "k2"}) {
		t.Errorf("the busiest processes are later %v", got)
	}
	wantMetric(t, m, fmt.Sprintf("headwater_keyspaces_open %d", n+1))
	none := server(t, nil)
	if got := shownIn(scrape(t, none)); len(got) != 0 {
		t.Errorf("by default metrics tell of %v", got)
	}
	if all, err := keyspace.List(t.Context(), s.Engine, compose.OwnRoot, "", 0); err != nil || len(all) != n {
		t.Error(len(all), err)
	}
}
