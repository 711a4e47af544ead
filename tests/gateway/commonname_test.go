package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// certified is a server that requires client certificates, with its clients.
type certified struct {
	addr    string
	clients map[string]*http.Client // with and without a common name
}

func (c *certified) do(t *testing.T, client, method, path, body string, header http.Header) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+c.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "*/*") // without it etcd takes the name in its own certificate for the user's
	for name, values := range header {
		r.Header[name] = values
	}
	resp, err := c.clients[client].Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", client, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	// Over TLS etcd serves gRPC by net/http, which sends a header before each error.
	resp.Header.Del("Grpc-Metadata-Content-Type")
	return fmt.Sprint(resp.StatusCode, shown(resp), (&side{}).plain(string(b)))
}

// token returns a token of root.
func (c *certified) token(t *testing.T, client string) string {
	t.Helper()
	resp, err := c.clients[client].Post("https://"+c.addr+"/v3/auth/authenticate", "application/json",
		strings.NewReader(`{"name":"root","password":"r"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatal(resp.Status, err)
	}
	return answer.Token
}

// bcryptCost is the smallest, for speed.
const bcryptCost = 4

// certifiedSides starts an etcd and a standalone server that want certificates of ca.
func certifiedSides(t *testing.T) (ca *tlstest.Authority, roots *x509.CertPool, theirs, ours string) {
	t.Helper()
	ca = tlstest.New(t, "ca")
	own := ca.Issue("server", tlstest.Name{Hosts: []string{"localhost", "127.0.0.1"}})
	files := transport.TLSInfo{
		CertFile: own.CertFile, KeyFile: own.KeyFile, TrustedCAFile: ca.CAFile, ClientCertAuth: true,
	}
	pem, err := os.ReadFile(ca.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	reference, err := refetcd.Start(func(c *embed.Config) {
		c.ClientTLSInfo = files
		c.BcryptCost = bcryptCost
		c.ListenClientUrls = []url.URL{{Scheme: "https", Host: c.ListenClientUrls[0].Host}}
		c.AdvertiseClientUrls = c.ListenClientUrls
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reference.Remove)
	server := standalone.Start(t, func(c *config.Config) {
		c.ListenClientURLs = []string{"https://127.0.0.1:0"}
		c.BcryptCost = bcryptCost
		c.ClientTLS = config.TLS{
			CertFile: own.CertFile, KeyFile: own.KeyFile, TrustedCAFile: ca.CAFile, ClientCertAuth: true,
		}
	})
	return ca, roots, reference.Addr(), strings.TrimPrefix(server.URL(), "https://")
}

// TestCommonName: where authentication is enabled, requests of clients whose certificates have a common name are
// refused with etcd's text, whatever other credentials they have. No other requests are.
func TestCommonName(t *testing.T) {
	ca, roots, theirs, ours := certifiedSides(t)
	clients := map[string]*http.Client{}
	for name, pair := range map[string]tlstest.Pair{
		"named": ca.Issue("named", tlstest.Name{CN: "root"}), "nameless": ca.Issue("nameless", tlstest.Name{}),
	} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair.TLS}}}
		clients[name] = &http.Client{Transport: tr}
		t.Cleanup(tr.CloseIdleConnections)
	}
	sides := []*certified{
		{addr: theirs, clients: clients},
		{addr: ours, clients: clients},
	}
	same := func(client, method, path, body string, header func(*certified) http.Header) {
		t.Helper()
		var answers []string
		for _, s := range sides {
			var h http.Header
			if header != nil {
				h = header(s)
			}
			answers = append(answers, s.do(t, client, method, path, body, h))
		}
		if answers[0] != answers[1] {
			t.Errorf("%s %s %s %s\netcd:      %s\nheadwater: %s", client, method, path, body, answers[0], answers[1])
		}
	}
	requests := func(header func(*certified) http.Header) {
		t.Helper()
		for _, client := range []string{"named", "nameless"} {
			for _, path := range []string{"/v3/kv/range", "/v3beta/kv/range", "/v3/auth/status", "/v3/nothing"} {
				same(client, http.MethodPost, path, `{"key":"YQ=="}`, header)
			}
			same(client, http.MethodOptions, "/v3/kv/range", "", header)
			same(client, http.MethodGet, "/health", "", header)
		}
	}
	requests(nil)
	for _, step := range [][2]string{
		{"user/add", `{"name":"root","password":"r"}`},
		{"user/grant", `{"user":"root","role":"root"}`},
		{"role/add", `{"name":"root"}`},
		{"user/grant", `{"user":"root","role":"root"}`},
		{"enable", `{}`},
	} {
		same("named", http.MethodPost, "/v3/auth/"+step[0], step[1], nil)
	}
	requests(nil)
	tokens := map[*certified]string{}
	for _, s := range sides {
		tokens[s] = s.token(t, "nameless")
	}
	requests(func(s *certified) http.Header { return http.Header{"Authorization": {tokens[s]}} })
	same("nameless", http.MethodPost, "/v3/auth/disable", "{}", func(s *certified) http.Header {
		return http.Header{"Authorization": {tokens[s]}}
	})
	requests(nil)
}
