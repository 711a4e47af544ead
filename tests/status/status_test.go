package status

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/leaktest"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
	"github.com/headwaterdb/headwater/tests/internal/standalone"
)

// patience bounds every wait.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { leaktest.Main(m) }

// start starts a standalone server.
func start(t *testing.T, change func(*config.Config)) *compose.Server {
	t.Helper()
	return standalone.Start(t, func(c *config.Config) {
		c.BcryptCost = auth.CostMin
		c.ListenStatusURLs = []string{"http://127.0.0.1:0"}
		change(c)
	})
}

// client returns an etcd client of a server without TLS.
func client(t *testing.T, s *compose.Server) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.URL()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, c *clientv3.Client, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if _, err := c.Put(t.Context(), k, "value of "+k); err != nil {
			t.Fatal(err)
		}
	}
}

// viewer is somebody who looks at the page.
type viewer struct {
	t              *testing.T
	url            string
	http           *http.Client
	user, password string
}

func newViewer(t *testing.T, url string, conf *tls.Config) viewer {
	tr := &http.Transport{TLSClientConfig: conf}
	t.Cleanup(tr.CloseIdleConnections)
	return viewer{t: t, url: url, http: &http.Client{Transport: tr}}
}

func (v viewer) as(user string) viewer {
	v.user, v.password = user, user
	return v
}

// open makes a request, whose body the caller closes.
func (v viewer) open(path string) *http.Response {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	v.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, v.url+path, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	if v.user != "" {
		r.SetBasicAuth(v.user, v.password)
	}
	w, err := v.http.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	return w
}

// get returns a page and its HTTP status.
func (v viewer) get(path string) (code int, text string) {
	v.t.Helper()
	w := v.open(path)
	defer w.Body.Close()
	b, err := io.ReadAll(w.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return w.StatusCode, string(b)
}

func (v viewer) want(path string, code int, parts ...string) {
	v.t.Helper()
	got, text := v.get(path)
	if got != code {
		v.t.Errorf("%s as %q: %d, want %d: %.300s", path, v.user, got, code, text)
	}
	for _, p := range parts {
		if !strings.Contains(text, p) {
			v.t.Errorf("%s as %q has no %q: %s", path, v.user, p, text)
		}
	}
}

// event returns the name and the data of the next event of a tail.
func event(t *testing.T, r *bufio.Reader) (name, data string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := strings.CutPrefix(line, "event: "); ok {
			name = strings.TrimSpace(n)
		}
		if d, ok := strings.CutPrefix(line, "data: "); ok {
			return name, strings.TrimSpace(d)
		}
	}
}

// TestRights: with authentication enabled, a viewer logs in as a user and sees only the keys that this user may read. A
// tail ends when the user may no longer read its keys.
func TestRights(t *testing.T) {
	s := start(t, func(*config.Config) {})
	c := client(t, s)
	put(t, c, "open/1", "open/2", "secret/1")
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range []string{"root", "ann", "weak"} {
		must(c.UserAdd(ctx, u, u))
	}
	must(c.UserGrantRole(ctx, "root", "root"))
	must(c.RoleAdd(ctx, "reader"))
	end := clientv3.GetPrefixRangeEnd("open/")
	must(c.RoleGrantPermission(ctx, "reader", "open/", end, clientv3.PermissionType(clientv3.PermRead)))
	must(c.UserGrantRole(ctx, "ann", "reader"))

	v := newViewer(t, s.StatusURLs()[0]+"/status/", nil)
	const keys = "keyspaces/default/"
	v.want(keys, 200, "open/1", "secret/1")
	must(c.AuthEnable(ctx))
	root, err := c.Authenticate(ctx, "root", "root")
	must(root, err)

	ann := v.as("ann")
	for _, path := range []string{"", "tail", "events", "key?key=open/1"} {
		v.want(keys+path, 401)
		v.as("nobody").want(keys+path, 401)
		v.as("weak").want(keys+path, 403)
	}
	v.as("root").want(keys, 200, "open/1", "secret/1", "as root")
	ann.want(keys, 403)
	ann.want(keys+"?prefix=open/", 200, "open/1", "open/2", "2 in all")
	ann.want(keys+"?prefix=open/&from=p", 403) // a range that begins after the prefix
	ann.want(keys+"key?key=open/1", 200, "value of open/1")
	for _, path := range []string{
		"?prefix=secret/", "key?key=secret/1", "tail?prefix=secret", "events?prefix=secret", "events",
	} {
		ann.want(keys+path, 403)
	}
	v.want("", 200) // the overview shows the process, not keys

	w := ann.open(keys + "events?prefix=open/")
	defer w.Body.Close()
	tail := bufio.NewReader(w.Body)
	if line, err := tail.ReadString('\n'); err != nil || line != ": open\n" {
		t.Fatal(line, err)
	}
	asRoot := withToken(ctx, root.Token)
	_, err = c.Txn(asRoot).Then(clientv3.OpPut("secret/2", "x"), clientv3.OpPut("open/3", "y")).Commit()
	must(nil, err)
	if name, data := event(t, tail); name != "change" || !strings.Contains(data, `"key":"open/3"`) {
		t.Errorf("%s: %s", name, data)
	}
	must(c.RoleRevokePermission(asRoot, "reader", "open/", end))
	if name, data := event(t, tail); name != "end" {
		t.Errorf("%s: %s", name, data)
	}
	ann.want(keys+"?prefix=open/", 403)
}

// TestCertificates: if a keyspace has an access rule, it must allow the viewer's certificate.
func TestCertificates(t *testing.T) {
	ca := tlstest.New(t, "ca")
	pair := ca.Server("server")
	s := start(t, func(c *config.Config) {
		c.ListenClientURLs, c.ListenStatusURLs = []string{"https://127.0.0.1:0"}, []string{"https://127.0.0.1:0"}
		c.ClientTLS = config.TLS{
			CertFile: pair.CertFile, KeyFile: pair.KeyFile, TrustedCAFile: ca.CAFile, ClientCertAuth: true,
		}
	})
	admin, err := grpc.NewClient(s.AdminURLs()[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	keyspaces := adminv1.NewKeyspacesClient(admin)
	_, err = keyspaces.Create(t.Context(), &adminv1.CreateRequest{
		Name: "team", Settings: &adminv1.Settings{Access: &keyspacev1.AccessRule{
			Allow: []*keyspacev1.Certificate{{Cn: "member-*"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	url := s.StatusURLs()[0] + "/status/"
	member := newViewer(t, url, ca.Client(ca.Issue("member", tlstest.Name{CN: "member-1"})))
	other := newViewer(t, url, ca.Client(ca.Issue("other", tlstest.Name{CN: "other"})))
	for _, path := range []string{"", "key?key=k", "tail"} {
		member.want("keyspaces/team/"+path, 200)
		other.want("keyspaces/team/"+path, 403)
		member.want("keyspaces/default/"+path, 200)
		other.want("keyspaces/none/"+path, 403) // the same answer as for a keyspace that the viewer may not enter
	}
	other.want("keyspaces/team/events", 403)
	member.want("", 200, "team", "days left")
	w := newViewer(t, url, ca.Client())
	if r, err := w.http.Get(url); err == nil {
		r.Body.Close()
		t.Error("the listener accepts a viewer without a certificate")
	}
	// A tail ends when a new rule does not allow its viewer's certificate any more.
	open := member.open("keyspaces/team/events")
	defer open.Body.Close()
	tail := bufio.NewReader(open.Body)
	if line, err := tail.ReadString('\n'); err != nil || line != ": open\n" {
		t.Fatal(line, err)
	}
	_, err = keyspaces.Change(t.Context(), &adminv1.ChangeRequest{
		Name: "team", Mask: &fieldmaskpb.FieldMask{Paths: []string{"access"}},
		Settings: &adminv1.Settings{Access: &keyspacev1.AccessRule{
			Allow: []*keyspacev1.Certificate{{Cn: "others-*"}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if name, data := event(t, tail); name != "end" {
		t.Errorf("%s: %s", name, data)
	}
	member.want("keyspaces/team/events", 403)
}

// TestAdmin: the admin API's listener serves the page beside the metrics. The listener of the page serves only the
// page.
func TestAdmin(t *testing.T) {
	s := start(t, func(c *config.Config) { c.EnableGRPCGateway = false })
	put(t, client(t, s), "k")
	socket := strings.TrimPrefix(s.AdminURLs()[0], "unix://")
	v := newViewer(t, "http://localhost/", nil)
	v.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	v.want("", 200, "Headwater")
	v.want("status/keyspaces/default/", 200, ">k<")
	v.want("metrics", 200, "headwater_keyspaces_cleared_rows_total")
	alone := newViewer(t, s.StatusURLs()[0]+"/", nil)
	alone.want("status/", 200)
	for _, path := range []string{"metrics", "debug/vars", "debug/pprof/", "v3/kv/range", "health", "version"} {
		alone.want(path, 404)
	}
	newViewer(t, s.URL()+"/", nil).want("status/", 404)
	newViewer(t, s.URL()+"/", nil).want("v3/kv/range", 404) // the gateway is off, though the page uses its connection
	if _, err := grpcCall(t, s.StatusURLs()[0]); err == nil {
		t.Error("the page's listener serves the admin API")
	}
}

// grpcCall lists the keyspaces through a listener.
func grpcCall(t *testing.T, url string) (*adminv1.ListResponse, error) {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(url, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return adminv1.NewKeyspacesClient(c).List(ctx, &adminv1.ListRequest{})
}

// TestTailEnds: a server that stops ends its open tails.
func TestTailEnds(t *testing.T) {
	s := start(t, func(*config.Config) {})
	v := newViewer(t, s.StatusURLs()[0]+"/status/", nil)
	for i := range 3 {
		w := v.open(fmt.Sprintf("keyspaces/default/events?prefix=%d", i))
		defer w.Body.Close()
		if line, err := bufio.NewReader(w.Body).ReadString('\n'); err != nil || line != ": open\n" {
			t.Fatal(line, err)
		}
		defer func() { _, _ = io.Copy(io.Discard, w.Body) }() // returns when the server has ended the tail
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// withToken returns a context for calls with a token.
func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "token", token)
}
