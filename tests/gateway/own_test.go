package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

const domain = "etcd.example.com"

// TestKeyspaces: the host of a request names its keyspace. If the host names none, metadata may.
func TestKeyspaces(t *testing.T) {
	s := standalone.Start(t, func(c *config.Config) { c.KeyspaceDomain = domain })
	for _, name := range []string{"a", "b"} {
		if _, err := keyspace.Create(t.Context(), s.Engine, compose.OwnRoot, name, nil); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(host, metadata, path, body string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if metadata != "" {
			req.Header.Set("Grpc-Metadata-Headwater-Keyspace", metadata)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.StatusCode, " ", string(b))
	}
	put := `{"key":"YQ==","value":"` + b64("mine") + `"}`
	if got := ask("a."+domain+":2379", "", "/v3/kv/put", put); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	for _, c := range []struct{ host, metadata, want string }{
		{"a." + domain, "", `"count":"1"`},
		{"A." + strings.ToUpper(domain) + ".:80", "", `"count":"1"`},
		{"", "a", `"count":"1"`},
		{"a." + domain, "a", `"count":"1"`},
		{"b." + domain, "", `"raft_term":"2"}}`},
		{"", "b", `"raft_term":"2"}}`},
		{"", "", `"raft_term":"2"}}`},
		{"nope." + domain, "", "404"},
		{"", "nope", "404"},
		{"a." + domain, "b", "400"},
	} {
		if got := ask(c.host, c.metadata, "/v3/kv/range", `{"key":"YQ=="}`); !strings.Contains(got, c.want) {
			t.Errorf("host %q, metadata %q: %s", c.host, c.metadata, got)
		}
	}
}

// TestWebSocketKeyspace: the host of a WebSocket names its keyspace too.
func TestWebSocketKeyspace(t *testing.T) {
	s := standalone.Start(t, func(c *config.Config) { c.KeyspaceDomain = domain })
	our := &side{addrs: []string{host(s)}}
	if _, err := keyspace.Create(t.Context(), s.Engine, compose.OwnRoot, "a", nil); err != nil {
		t.Fatal(err)
	}
	ws, _ := our.ask(t, "/v3/watch", http.Header{"Host": {"a." + domain}}, `{"create_request":{"key":"YQ=="}}`)
	if got := our.read(ws); !strings.Contains(got, "created") {
		t.Fatal(got)
	}
	our.do(t, request{path: "/v3/kv/put", body: `{"key":"YQ==","value":"` + b64("another's") + `"}`})
	our.do(t, request{
		path: "/v3/kv/put", body: `{"key":"YQ==","value":"` + b64("mine") + `"}`,
		header: http.Header{"Grpc-Metadata-Headwater-Keyspace": {"a"}},
	})
	if got := our.read(ws); !strings.Contains(got, b64("mine")) {
		t.Error(got)
	}
}

// TestNotAPod: a client cannot pretend by headers to be a pod that relays, or another client.
func TestNotAPod(t *testing.T) {
	ours := distributed(t)
	for range 3 * len(ours.addrs) {
		for _, path := range []string{"/v3/kv/range", "/v3/lease/leases"} {
			a := ours.do(t, request{path: path, body: `{"key":"YQ=="}`, header: http.Header{
				"Grpc-Metadata-Headwater-Relayed": {"1"}, "grpc-metadata-headwater-relayed": {"1"},
				"Grpc-Metadata-Headwater-Caller": {"1"}, "Grpc-Metadata-Headwater-Anything": {"1"},
			}})
			if a.status != http.StatusOK {
				t.Errorf("%s: %v", path, a)
			}
		}
	}
}

// TestLimitsByClient: limits per connection apply to the client's own connection, and not to the gateway's connection
// that all clients share.
func TestLimitsByClient(t *testing.T) {
	s := standalone.Start(t, func(c *config.Config) { c.MaxWatchStreamsPerConn, c.MaxConcurrentStreams = 1, 1 })
	ours := &side{addrs: []string{host(s)}}
	for range 5 {
		w := ours.open(t, request{path: "/v3/watch", body: `{"create_request":{"key":"YQ=="}}`})
		if got := w.next(t); !strings.Contains(got, "created") {
			t.Error(got)
		}
	}
}

// TestNoGateway: with --enable-grpc-gateway=false there is no gateway.
func TestNoGateway(t *testing.T) {
	ours := &side{addrs: []string{host(standalone.Start(t, func(c *config.Config) { c.EnableGRPCGateway = false }))}}
	for _, path := range []string{"/v3/kv/range", "/v3beta/kv/range"} {
		if a := ours.do(t, request{path: path}); a.status != http.StatusNotFound || a.body != "404 page not found\n" {
			t.Errorf("%s: %v", path, a)
		}
	}
}

// TestStop: when the server stops, streams over HTTP and WebSockets end and say why.
func TestStop(t *testing.T) {
	s := standalone.Start(t, nil)
	ours := &side{addrs: []string{host(s)}}
	w := ours.open(t, request{path: "/v3/watch", body: `{"create_request":{"key":"YQ=="}}`})
	ws, _ := ours.ask(t, "/v3/watch", nil, `{"create_request":{"key":"YQ=="}}`)
	silent, _ := ours.ask(t, "/v3/watch", nil) // has not asked for anything
	if got := w.next(t) + ours.read(ws); strings.Count(got, "created") != 2 {
		t.Fatal(got)
	}
	s.Drain(context.Background())
	for _, got := range []string{w.next(t), ours.read(ws)} {
		if !strings.Contains(got, `"error":{"code":14`) {
			t.Errorf("%q", got)
		}
	}
	if got := ours.read(silent); !strings.Contains(got, `"code":14`) && !strings.Contains(got, "EOF") {
		t.Errorf("%q", got)
	}
}
