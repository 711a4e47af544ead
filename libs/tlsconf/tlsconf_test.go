package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
)

// certificate is what TestIdentity's client has, and what it says.
func certificate(t *testing.T) (*x509.Certificate, Identity) {
	t.Helper()
	p := tlstest.New(t, "ca").Issue("client", tlstest.Name{
		CN: "alice", Orgs: []string{"dev", "ops"}, Hosts: []string{"a.test", "10.0.0.1"},
		URIs: []string{"spiffe://x/a"},
	})
	return p.Cert, Identity{
		CommonName: "alice", Organizations: []string{"dev", "ops"}, DNSNames: []string{"a.test"},
		IPs: []string{"10.0.0.1"}, URIs: []string{"spiffe://x/a"},
	}
}

// TestIdentity: whose word counts, and where.
func TestIdentity(t *testing.T) {
	cert, alice := certificate(t)
	escaped := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})))
	rfc9440 := ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":"
	client := &AuthInfo{identity: Identity{CommonName: "carol"}, known: true}
	trusted := &AuthInfo{identity: Identity{CommonName: "pod"}, known: true, peer: true, trusted: true}
	untrusted := &AuthInfo{identity: Identity{CommonName: "pod"}, known: true, peer: true}
	names := say(with(&AuthInfo{identity: alice, known: true}))
	for _, c := range []struct {
		name string
		info *AuthInfo
		said []string
		want string
	}{
		{"a client", client, nil, "carol"},
		{"a client without a certificate", &AuthInfo{}, nil, ""},
		{"a client that says that it is somebody", client, []string{names}, ""},
		{"a client that says that it is nobody", client, []string{saidNobody}, ""},
		{"a peer by itself", trusted, nil, ""},
		{"a peer for somebody", trusted, []string{names}, "alice"},
		{"a router, RFC 9440", trusted, []string{rfc9440}, "alice"},
		{"a router, PEM", trusted, []string{escaped}, "alice"},
		{"a peer for nobody", trusted, []string{saidNobody}, ""},
		{"a peer for two", trusted, []string{names, names}, ""},
		{"a peer with nonsense", trusted, []string{"names=?"}, ""},
		{"a peer with other nonsense", trusted, []string{":AAAA:"}, ""},
		{"a peer with half a certificate", trusted, []string{escaped[:len(escaped)/2]}, ""},
		{"a peer with nothing", trusted, []string{""}, ""},
		{"a peer without a name that is allowed", untrusted, []string{names}, ""},
		{"such a peer by itself", untrusted, nil, ""},
		{"without TLS", nil, []string{names}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := metadata.NewIncomingContext(with(c.info), metadata.MD{ClientMetadata: c.said})
			for range 2 { // the second is remembered
				got, ok := FromContext(ctx)
				if got.CommonName != c.want || ok != (c.want != "") {
					t.Fatalf("%+v, %v", got, ok)
				}
				if c.want == "alice" {
					if diff := cmp.Diff(alice, got); diff != "" {
						t.Error(diff)
					}
				}
			}
		})
	}
	if _, ok := FromContext(t.Context()); ok {
		t.Error("a context without a peer has an identity")
	}
}

// with is the context of a call over a connection.
func with(info *AuthInfo) context.Context {
	p := &peer.Peer{}
	if info != nil {
		p.AuthInfo = info
	}
	return peer.NewContext(context.Background(), p)
}

// TestHearing: what is remembered is bounded.
func TestHearing(t *testing.T) {
	var h hearing
	for i := range 2 * hearingMax {
		h.read(strings.Repeat("x", i))
		if len(h.said) > hearingMax {
			t.Fatal(len(h.said))
		}
	}
}

func FuzzHear(f *testing.F) {
	f.Add(saidNames + "e30=")
	f.Add(":AAAA:")
	f.Add("-----BEGIN%20CERTIFICATE-----%0A")
	f.Fuzz(func(t *testing.T, v string) {
		if id, ok := hear(v); !ok && !cmp.Equal(id, Identity{}) {
			t.Error(id)
		}
	})
}

func write(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// connected are the two ends of a connection whose buffers hold a handshake.
func connected(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// handshake makes one with o's, of a client with c; it returns the serial number of the server's certificate, and what
// the server says.
func handshake(t *testing.T, server *TLS, c *tls.Config) (serial int64, err error) {
	t.Helper()
	a, b := connected(t)
	defer a.Close()
	client := tls.Client(a, c)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if client.Handshake() == nil {
			_, _ = client.Read(make([]byte, 1)) // until the server is gone
		}
	}()
	_, err = server.Handshake(t.Context(), b, HTTP2)
	b.Close()
	<-done
	if certs := client.ConnectionState().PeerCertificates; len(certs) > 0 {
		serial = certs[0].SerialNumber.Int64()
	}
	return serial, err
}

// TestReload: each file counts from when it has changed, and what cannot be used changes nothing and is told.
func TestReload(t *testing.T) {
	ca, next := tlstest.New(t, "ca"), tlstest.New(t, "next")
	server, alice, bob := ca.Server("server"), ca.Issue("alice", tlstest.Name{CN: "alice"}),
		next.Issue("bob", tlstest.Name{CN: "bob"})
	crl := ca.Revoke("crl")
	var logs strings.Builder
	o := Options{
		Use: "client", Flags: "--", CertFile: server.CertFile, KeyFile: server.KeyFile, TrustedCAFile: ca.CAFile,
		CRLFile: crl,
		Log:     slog.New(slog.NewTextHandler(&logs, nil)),
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(Collector{s, nil})
	metric := func(name, why string, want float64) {
		t.Helper()
		got, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range got {
			for _, m := range f.Metric {
				if f.GetName() == name && (why == "" || m.Label[0].GetValue() == why) {
					if v := m.GetGauge().GetValue() + m.GetCounter().GetValue(); v != want {
						t.Errorf("%s %s is %v, want %v", name, why, v, want)
					}
					return
				}
			}
		}
		t.Errorf("no metric %s %s", name, why)
	}
	expect := func(what string, who tlstest.Pair, want string) {
		t.Helper()
		_, err := handshake(t, s, ca.Client(who))
		got := ""
		if err != nil {
			got = reason(err)
		}
		if got != want {
			t.Errorf("%s: %s is refused for %q (%v), want %q", what, who.Cert.Subject.CommonName, got, err, want)
		}
	}
	expect("at first", alice, "")
	expect("at first", bob, whyAuthority)
	metric("headwater_tls_reload_failing", "", 0)

	write(t, crl, ca.Revoke("crl2", alice))
	mustReload(t, s)
	expect("revoked", alice, whyRevoked)
	write(t, crl, ca.Revoke("crl3"))
	mustReload(t, s)
	expect("no longer revoked", alice, "")
	metric("headwater_tls_reloads_total", "", 2)

	for _, path := range []string{crl, ca.CAFile, server.CertFile, server.KeyFile} {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"", "junk"} {
			if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Reload(); err == nil || !strings.Contains(err.Error(), path) ||
				!strings.HasPrefix(err.Error(), "--") {
				t.Errorf("%s with %q: %v", path, bad, err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s is not there: %v", path, err)
		}
		metric("headwater_tls_reload_failing", "", 1)
		expect("with a file that is not there", alice, "")
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		mustReload(t, s)
		metric("headwater_tls_reload_failing", "", 0)
	}
	if n := strings.Count(logs.String(), "those read before stay in use"); n < 8 {
		t.Errorf("%d lines about files that cannot be used:\n%s", n, logs.String())
	}

	write(t, ca.CAFile, next.CAFile)
	mustReload(t, s)
	expect("another authority", bob, "")
	expect("another authority", alice, whyAuthority)
	metric("headwater_tls_handshake_failures_total", whyRevoked, 1)
	metric("headwater_tls_handshake_failures_total", whyAuthority, 2)

	other := ca.Server("other")
	write(t, server.CertFile, other.CertFile)
	write(t, server.KeyFile, other.KeyFile)
	mustReload(t, s)
	if serial, err := handshake(t, s, ca.Client(bob)); err != nil || serial != other.Cert.SerialNumber.Int64() {
		t.Errorf("certificate %d, %v; want %v", serial, err, other.Cert.SerialNumber)
	}
}

func mustReload(t *testing.T, s *TLS) {
	t.Helper()
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
}

// TestLook: a handshake looks at the files by itself, when the last look is lookEvery ago.
func TestLook(t *testing.T) {
	ca := tlstest.New(t, "ca")
	server := ca.Server("server")
	s, err := Open(Options{Use: "client", Flags: "--", CertFile: server.CertFile, KeyFile: server.KeyFile})
	if err != nil {
		t.Fatal(err)
	}
	other := ca.Server("other")
	write(t, server.CertFile, other.CertFile)
	write(t, server.KeyFile, other.KeyFile)
	s.looked.Store(time.Now().Add(time.Hour).UnixNano()) // just now
	if serial, err := handshake(t, s, ca.Client()); err != nil || serial != server.Cert.SerialNumber.Int64() {
		t.Error("too early a look", serial, err)
	}
	s.looked.Store(time.Now().Add(-lookEvery).UnixNano())
	if serial, err := handshake(t, s, ca.Client()); err != nil || serial != other.Cert.SerialNumber.Int64() {
		t.Error("no look", serial, err)
	}
}

// TestServers: what a client of other servers refuses.
func TestServers(t *testing.T) {
	ca, other := tlstest.New(t, "ca"), tlstest.New(t, "other")
	own := ca.Issue("own", tlstest.Name{CN: "pod"})
	revoked := ca.Server("revoked")
	crl := ca.Revoke("crl", revoked)
	named := Options{AllowedCNs: []string{"pod"}}
	for _, c := range []struct {
		name   string
		server tlstest.Pair
		host   string
		o      Options
		ok     bool
	}{
		{"right", ca.Server("s"), "localhost", Options{}, true},
		{"an address", ca.Server("s"), "127.0.0.1", Options{}, true},
		{"wrong host", ca.Server("s"), "elsewhere", Options{}, false},
		{"wrong address", ca.Server("s"), "127.0.0.2", Options{}, false},
		{"wrong authority", other.Server("s"), "localhost", Options{}, false},
		{"revoked", revoked, "localhost", Options{}, false},
		{"expired", ca.Issue("s", tlstest.Name{Hosts: []string{"localhost"}, Expires: time.Now().Add(-time.Minute)}), "localhost", Options{}, false},
		{"a name of the list, at an address that changes", ca.Issue("s", tlstest.Name{CN: "pod"}), "10.1.2.3", named, true},
		{"no name of the list", ca.Server("s"), "localhost", named, false},
		{"a name of the list, wrong authority", other.Issue("s", tlstest.Name{CN: "pod"}), "localhost", named, false},
		{"a name of the list, expired", ca.Issue("s", tlstest.Name{CN: "pod", Expires: time.Now().Add(-time.Minute)}), "localhost", named, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, err := Open(Options{
				CertFile: c.server.CertFile, KeyFile: c.server.KeyFile, TrustedCAFile: ca.CAFile,
			})
			if err != nil {
				t.Fatal(err)
			}
			c.o.Flags, c.o.TrustedCAFile, c.o.CRLFile = "--peer-", ca.CAFile, crl
			c.o.CertFile, c.o.KeyFile = own.CertFile, own.KeyFile
			client, err := Open(c.o)
			if err != nil {
				t.Fatal(err)
			}
			a, b := connected(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = server.Handshake(context.Background(), b, HTTP2) // the client's error tells
				b.Close()
			}()
			_, _, err = client.ClientCredentials().ClientHandshake(t.Context(), net.JoinHostPort(c.host, "1"), a)
			a.Close()
			<-done
			if (err == nil) != c.ok {
				t.Error(err)
			}
		})
	}
}

// TestOpenErrors: a start fails for files that cannot be used, and says which.
func TestOpenErrors(t *testing.T) {
	ca := tlstest.New(t, "ca")
	p, q := ca.Server("p"), ca.Server("q")
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{
		"--cert-file: open /none: no such file":       {CertFile: "/none", KeyFile: p.KeyFile},
		"--key-file: open /none: no such file":        {CertFile: p.CertFile, KeyFile: "/none"},
		"private key does not match public key":       {CertFile: p.CertFile, KeyFile: q.KeyFile},
		"--client-cert-file, --client-key-file: ":     {CertFile: p.CertFile, KeyFile: p.KeyFile, ClientCertFile: junk, ClientKeyFile: junk},
		"--trusted-ca-file: open /none: no such file": {CertFile: p.CertFile, KeyFile: p.KeyFile, TrustedCAFile: "/none"},
		"no certificate in PEM":                       {CertFile: p.CertFile, KeyFile: p.KeyFile, TrustedCAFile: junk},
		"--client-crl-file: " + junk: {
			CertFile: p.CertFile, KeyFile: p.KeyFile, TrustedCAFile: ca.CAFile, CRLFile: junk,
		},
	} {
		o.Flags = "--"
		// The text of a missing file is that of stat or open.
		if _, err := Open(o); err == nil || !strings.Contains(strings.Replace(err.Error(), "stat ", "open ", 1), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// TestPEMList: several lists of revoked certificates in PEM count all.
func TestPEMList(t *testing.T) {
	ca := tlstest.New(t, "ca")
	server, a, b := ca.Server("server"), ca.Issue("a", tlstest.Name{}), ca.Issue("b", tlstest.Name{})
	var lists []byte
	for _, p := range []tlstest.Pair{a, b} {
		der, err := os.ReadFile(ca.Revoke("crl", p))
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	path := filepath.Join(t.TempDir(), "crl.pem")
	if err := os.WriteFile(path, lists, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{CertFile: server.CertFile, KeyFile: server.KeyFile, TrustedCAFile: ca.CAFile, CRLFile: path})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []tlstest.Pair{a, b} {
		if _, err := handshake(t, s, ca.Client(p)); err == nil || reason(err) != whyRevoked {
			t.Error(err)
		}
	}
}

// TestSelfSigned: a certificate is made once, and again when it has expired.
func TestSelfSigned(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	serial := func() string {
		t.Helper()
		cert, key, err := SelfSigned(filepath.Join(dir, "fixtures", "client"), []string{"127.0.0.1:2379"}, 1, log)
		if err != nil {
			t.Fatal(err)
		}
		p, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Leaf.VerifyHostname("127.0.0.1"); err != nil {
			t.Error(err)
		}
		return p.Leaf.SerialNumber.String()
	}
	first := serial()
	if again := serial(); again != first {
		t.Error("it is made anew")
	}
	old := tlstest.New(t, "ca").Issue("old",
		tlstest.Name{Hosts: []string{"127.0.0.1"}, Expires: time.Now().Add(-time.Minute)})
	write(t, filepath.Join(dir, "fixtures", "client", "cert.pem"), old.CertFile)
	write(t, filepath.Join(dir, "fixtures", "client", "key.pem"), old.KeyFile)
	if got := serial(); got == first || got == old.Cert.SerialNumber.String() {
		t.Error("one that has expired stays")
	}
	if err := os.Remove(filepath.Join(dir, "fixtures", "client", "key.pem")); err != nil {
		t.Fatal(err)
	}
	serial()
	if _, _, err := SelfSigned(t.TempDir(), nil, 0, log); err == nil {
		t.Error("a certificate that is valid for no time")
	}
}
