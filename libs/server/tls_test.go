package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/headwaterdb/headwater/libs/porttest"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
)

// serverOptions are those of a listener with a certificate.
func serverOptions(p tlstest.Pair) tlsconf.Options {
	return tlsconf.Options{Use: "client", Flags: "--", CertFile: p.CertFile, KeyFile: p.KeyFile}
}

func openTLS(t *testing.T, o tlsconf.Options) *tlsconf.TLS {
	t.Helper()
	opened, err := tlsconf.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// target is a listener as tests reach it.
type target struct {
	name string
	url  string
	http bool   // it speaks HTTP/1, else gRPC
	path string // for HTTP
}

// dialer connects to a URL that is listened on, whatever its kind.
func dialer(t *testing.T, u string) func(context.Context) (net.Conn, error) {
	t.Helper()
	a, err := parseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, a.network, a.addr)
	}
}

// call makes a call to to, with c (nil: without TLS), and returns what it says, or an error if it does not get
// through.
func (to target) call(t *testing.T, c *tls.Config) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dial := dialer(t, to.url)
	if to.http {
		scheme := "http://"
		if c != nil {
			scheme = "https://"
		}
		client := http.Client{Transport: &http.Transport{
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			TLSClientConfig: c, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		}}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"localhost"+to.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusBadRequest { // net/http's own to what is no HTTP
			return "", errors.New(resp.Status)
		}
		_, err = io.ReadAll(resp.Body)
		return "", err
	}
	creds := insecure.NewCredentials()
	if c != nil {
		creds = credentials.NewTLS(c)
	}
	cc, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	resp, err := pb.NewLeaseClient(cc).LeaseGrant(ctx, &pb.LeaseGrantRequest{})
	if err != nil && strings.Contains(err.Error(), "no store yet") {
		return "not ready", nil
	}
	return resp.GetError(), err
}

// TestEveryListener goes through all listeners with TLS and all kinds of wrong certificates: what one refuses, all do,
// before there is a store too.
func TestEveryListener(t *testing.T) {
	ca, other := tlstest.New(t, "ca"), tlstest.New(t, "other")
	server := ca.Server("server")
	right := ca.Issue("right", tlstest.Name{CN: "right", Hosts: []string{"right.test"}})
	revoked := ca.Issue("revoked", tlstest.Name{CN: "right", Hosts: []string{"right.test"}})
	crl := ca.Revoke("crl", revoked)
	clients := []struct {
		name string
		tls  *tls.Config
	}{
		{"", nil},
		{"no_certificate", ca.Client()},
		{"unknown_authority", ca.Client(other.Issue("other", tlstest.Name{CN: "right", Hosts: []string{"right.test"}}))},
		{"expired", ca.Client(ca.Issue("old", tlstest.Name{CN: "right", Hosts: []string{"right.test"}, Expires: time.Now().Add(-time.Minute)}))},
		{"revoked", ca.Client(revoked)},
		{"wrong_name", ca.Client(ca.Issue("wrong", tlstest.Name{CN: "wrong", Hosts: []string{"wrong.test"}}))},
		{"right", ca.Client(right)},
	}
	options := func(use string) tlsconf.Options {
		o := serverOptions(server)
		o.Use, o.TrustedCAFile, o.CRLFile = use, ca.CAFile, crl
		return o
	}
	forClients, forPeers, forAdmin := options("client"), options("peer"), options("admin")
	forClients.AllowedHostnames = []string{"elsewhere.test", "right.test"}
	forPeers.AllowedCNs, forPeers.Peer = []string{"elsewhere", "right"}, true
	forAdmin.AllowedCNs = []string{"right"}
	dir := t.TempDir()
	var c Sockets
	c.TLS, c.PeerTLS = openTLS(t, forClients), openTLS(t, forPeers)
	c.Client = []string{"https://127.0.0.1:0", "unixs://" + dir + "/client"}
	c.Metrics, c.Peer = []string{"https://127.0.0.1:0"}, []string{"https://127.0.0.1:0"}
	both, err := Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	c.Client, c.HTTP, c.Metrics, c.Peer = []string{"https://127.0.0.1:0"}, []string{"https://127.0.0.1:0"}, nil, nil
	apart, err := Listen(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	at := func(s *Server, i int, name string, web bool) target {
		return target{name: name, url: s.listeners[i].urls[0], http: web, path: "/livez?exclude=serializable_read"}
	}
	targets := []target{
		at(both, 0, "client, gRPC", false), at(both, 0, "client, HTTP", true), at(both, 1, "unix, gRPC", false),
		at(both, 1, "unix, HTTP", true), at(both, 2, "metrics", true), at(both, 3, "peer", false),
		at(apart, 0, "client, gRPC apart", false), at(apart, 1, "client, HTTP apart", true),
	}
	check := func(stage, who string) {
		for _, to := range targets {
			for _, client := range clients {
				said, err := to.call(t, client.tls)
				if ok := err == nil; ok != (client.name == "right") {
					t.Errorf("%s, %s: a client with %q gets through: %v, %v", stage, to.name, client.name, ok, err)
				}
				if err == nil && !to.http && who != "" && said != who && to.name != "peer" {
					t.Errorf("%s, %s: the server knows the client as %q", stage, to.name, said)
				}
				if to.name == "peer" && err == nil && who != "" && said != "nobody" {
					t.Errorf("%s: a peer's certificate is taken for that of a client: %q", stage, said)
				}
			}
		}
	}
	notReady := NotReadyOptions{
		Why: func() error { return errors.New("no store yet") }, Log: slog.New(slog.DiscardHandler),
	}
	leave, leaveApart := both.AnswerNotReady(notReady), apart.AnswerNotReady(notReady)
	check("not ready", "")
	leave()
	leaveApart()
	serveFakes(t, both, defaultSettings())
	serveFakes(t, apart, defaultSettings())
	check("serving", "right")

	l, bound, err := ListenPrivate(t.Context(), "https://127.0.0.1:0", openTLS(t, forAdmin))
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(tlsconf.ServerCredentials()))
	pb.RegisterLeaseServer(g, whoami{})
	admin := NewOperators(g, HTTPOptions{Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	admin.Serve(l)
	targets = []target{{name: "admin", url: bound}, {name: "admin's metrics", url: bound, http: true, path: "/metrics"}}
	check("serving", "right")
	admin.Stop()
}

// TestMixed: the same address with and without TLS serves both, and a port without TLS answers a handshake as it has.
func TestMixed(t *testing.T) {
	ca := tlstest.New(t, "ca")
	addr := porttest.Addr(t) // a port that can be given twice
	r := start(t, func(c *serverSettings) {
		c.TLS = openTLS(t, serverOptions(ca.Server("server")))
		c.Client = []string{"http://" + addr, "https://" + addr, "http://" + addr, "http://127.0.0.1:0"}
	})
	if got, want := fmt.Sprint(r.AdvertisedURLs()),
		fmt.Sprint([]string{"http://" + addr, "https://" + addr, r.url(1)}); got != want {
		t.Errorf("advertised %s, want %s", got, want)
	}
	for _, web := range []bool{true, false} {
		for _, c := range []*tls.Config{nil, ca.Client()} {
			to := target{url: r.url(0), http: web, path: "/version"}
			if said, err := to.call(t, c); err != nil || !web && said != "nobody" {
				t.Errorf("HTTP %v, TLS %v: %q, %v", web, c != nil, said, err)
			}
		}
	}
	if _, err := (target{url: r.url(1), http: true, path: "/version"}).call(t, ca.Client()); err == nil {
		t.Error("TLS where there is none")
	}
}

// TestALPN: whoever can speak HTTP/1 does, since on HTTP/2 there is gRPC alone.
func TestALPN(t *testing.T) {
	ca := tlstest.New(t, "ca")
	r := start(t, func(c *serverSettings) {
		c.TLS = openTLS(t, serverOptions(ca.Server("server")))
		c.Client, c.HTTP = []string{"https://127.0.0.1:0"}, nil
		c.Metrics = []string{"https://127.0.0.1:0"}
	})
	for _, c := range []struct {
		i     int
		offer []string
		want  string
	}{
		{0, []string{"h2", "http/1.1"}, "http/1.1"},
		{0, []string{"h2"}, "h2"},
		{0, nil, ""},
		{0, []string{"grpc-exp", "h2"}, "h2"},
		{1, []string{"h2", "http/1.1"}, "http/1.1"},
	} {
		conf := ca.Client()
		conf.NextProtos = c.offer
		conn, err := tls.Dial("tcp", strings.TrimPrefix(r.url(c.i), "https://"), conf)
		if err != nil {
			t.Fatal(c, err)
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
			t.Errorf("%v: %q", c, got)
		}
		conn.Close()
	}
}

// TestNoCertificate: URLs with TLS are refused where there is no certificate, in etcd's words.
func TestNoCertificate(t *testing.T) {
	for want, c := range map[string]Sockets{
		"TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:0 with HTTPS scheme":         {Client: []string{"https://127.0.0.1:0"}},
		"TLS key/cert (--cert-file, --key-file) must be provided for client url unixs:///nowhere/x with HTTPS scheme":          {Client: []string{"unixs:///nowhere/x"}},
		"client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url":                                {Metrics: []string{"https://127.0.0.1:0"}},
		"TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url https://127.0.0.1:0 with HTTPS scheme": {Peer: []string{"https://127.0.0.1:0"}},
	} {
		if s, err := Listen(t.Context(), c); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
			if s != nil {
				s.Close()
			}
		}
	}
}

// TestRotation replaces the server's certificate again and again, in pieces, while clients connect and call: nobody
// sees an error, and the last certificate is the one that is shown.
func TestRotation(t *testing.T) {
	ca := tlstest.New(t, "ca")
	own := ca.Server("server")
	opened := openTLS(t, serverOptions(own))
	r := start(t, func(c *serverSettings) {
		c.TLS, c.Client = opened, []string{"https://127.0.0.1:0"}
	})
	to := target{url: r.url(0)}
	stay, err := grpc.NewClient(strings.TrimPrefix(to.url, "https://"),
		grpc.WithTransportCredentials(credentials.NewTLS(ca.Client())))
	if err != nil {
		t.Fatal(err)
	}
	defer stay.Close()
	stop, calls := make(chan struct{}), make(chan error, 4)
	var wg sync.WaitGroup
	again := func(call func() error) {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := call(); err != nil {
					calls <- err
					return
				}
			}
		})
	}
	for range 2 {
		again(func() error { _, err := to.call(t, ca.Client()); return err })
	}
	again(func() error {
		_, err := pb.NewLeaseClient(stay).LeaseGrant(t.Context(), &pb.LeaseGrantRequest{})
		return err
	})
	var last tlstest.Pair
	for i := range 5 {
		last = ca.Server(fmt.Sprint("next", i))
		replace(t, own.CertFile, last.CertFile)
		if err := opened.Reload(); err == nil {
			t.Error("a certificate without its key is taken")
		}
		if _, err := to.call(t, ca.Client()); err != nil {
			t.Error("between the two files: ", err)
		}
		replace(t, own.KeyFile, last.KeyFile)
		if err := opened.Reload(); err != nil {
			t.Error(err)
		}
		if _, err := to.call(t, ca.Client()); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	close(calls)
	for err := range calls {
		t.Error("under load: ", err)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(to.url, "https://"), ca.Client())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].SerialNumber; got.Cmp(last.Cert.SerialNumber) != 0 {
		t.Errorf("the server shows certificate %v, not %v", got, last.Cert.SerialNumber)
	}
}

// replace puts the content of from into the file to, at once, as those who rotate certificates do.
func replace(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(filepath.Dir(to), "next")
	if err := os.WriteFile(next, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, to); err != nil {
		t.Fatal(err)
	}
}

// TestMaxConnectionAge: a connection that is old takes no new calls, and calls go on over another.
func TestMaxConnectionAge(t *testing.T) {
	r := start(t, func(c *serverSettings) { c.MaxConnectionAge = time.Millisecond })
	var mu sync.Mutex
	dialled := 0
	cc, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(r.url(0), "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialled++
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for again := true; again; {
		if _, err := pb.NewKVClient(cc).Put(ctx, &pb.PutRequest{}, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		again = dialled < 3
		mu.Unlock()
	}
	resp, header := request(t, "GET", r.url(0)+"/version", func(r *http.Request) { r.Close = false })
	if resp.Code != http.StatusOK {
		t.Error(resp, header)
	}
}
