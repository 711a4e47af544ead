package keyspaces

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/lease"
	"github.com/headwaterdb/headwater/libs/tlsconf"
	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// The tenants' keyspaces. Nobody may enter dark, and unknown does not exist.
const (
	victims   = "victims"
	mallorys  = "mallorys"
	dark      = "dark"
	unknown   = "unknown"
	noEntry   = "headwater: the client may not enter the keyspace, or there is none"
	localhost = "localhost" // a server name that names no keyspace
)

// tenancy is the servers of one deployment, with two tenants that do not trust each other.
type tenancy struct {
	*testing.T
	ca              *tlstest.Authority
	own             tlstest.Pair // the servers' certificate
	victim, mallory tlstest.Pair
	servers         []*compose.Server
	admin           admin
}

func newTenancy(t *testing.T) *tenancy {
	t.Helper()
	ca := tlstest.New(t, "ca")
	return &tenancy{
		T: t, ca: ca,
		own:    ca.Issue("server", tlstest.Name{CN: "pod", Hosts: []string{localhost, "127.0.0.1", "*." + domain}}),
		victim: ca.Issue("victim", tlstest.Name{CN: "victim-1", Orgs: []string{"Good, Inc"}}),
		mallory: ca.Issue("mallory", tlstest.Name{
			CN: "mallory", Orgs: []string{"Good, Inc"}, URIs: []string{"spiffe://m/a"},
		}),
	}
}

// configure makes a server require client certificates.
func (x *tenancy) configure(c *config.Config) {
	c.ListenClientURLs = []string{"https://127.0.0.1:0"}
	c.ClientTLS = config.TLS{
		CertFile: x.own.CertFile, KeyFile: x.own.KeyFile, TrustedCAFile: x.ca.CAFile, ClientCertAuth: true,
	}
}

// populate makes the keyspaces.
func (x *tenancy) populate() {
	x.Helper()
	x.admin = adminOf(x.T, x.servers[0])
	for name, allow := range map[string][]*keyspacev1.Certificate{
		victims:  {{Cn: "victim-*", O: "Good, Inc"}},
		mallorys: {{Uri: "spiffe://n/*"}, {Uri: "spiffe://m/*"}},
	} {
		x.create(name, &keyspacev1.AccessRule{Allow: allow})
	}
	if k := x.create(dark, nil); k.GetOpen() {
		x.Error("a new keyspace is open where clients have certificates")
	}
}

func (x *tenancy) create(name string, rule *keyspacev1.AccessRule) *adminv1.Keyspace {
	x.Helper()
	k, err := x.admin.Create(x.Context(), &adminv1.CreateRequest{
		Name: name, Settings: &adminv1.Settings{Access: rule},
	})
	if err != nil {
		x.Fatal(err)
	}
	return k
}

// tls returns a client's TLS configuration. sni is the server name that it asks for.
func (x *tenancy) tls(p tlstest.Pair, sni string) *tls.Config {
	x.Helper()
	pemOf, err := os.ReadFile(x.ca.CAFile)
	if err != nil {
		x.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pemOf)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{p.TLS}, ServerName: sni}
}

func addr(s *compose.Server) string { return strings.TrimPrefix(s.URL(), "https://") }

// dial connects to a server as a tenant. grpc-go uses the server name of TLS as the authority.
func (x *tenancy) dial(s *compose.Server, p tlstest.Pair, sni string) *grpc.ClientConn {
	x.Helper()
	c, err := grpc.NewClient(addr(s), grpc.WithTransportCredentials(credentials.NewTLS(x.tls(p, sni))))
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { c.Close() })
	return c
}

// client returns a client of the keyspace that its host names name.
func (x *tenancy) client(s *compose.Server, p tlstest.Pair, name string) *clientv3.Client {
	x.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.URL()}, TLS: x.tls(p, name+"."+domain), Logger: zap.NewNop(), DialTimeout: patience,
		// Without it clientv3 sends the address.
		DialOptions: []grpc.DialOption{grpc.WithAuthority(name + "." + domain)},
	})
	if err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { c.Close() })
	return c
}

// call calls a method and returns the error.
func (x *tenancy) call(ctx context.Context, c *grpc.ClientConn, method string, o ...grpc.CallOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, o...)
	if err != nil {
		return err
	}
	_ = s.SendMsg(&emptypb.Empty{}) // the answer has the error
	_ = s.CloseSend()
	return s.RecvMsg(&emptypb.Empty{})
}

// expect checks that a call failed with exactly this error.
func (x *tenancy) expect(what string, err error, code codes.Code, text string) {
	x.Helper()
	if st := status.Convert(err); st.Code() != code || st.Message() != text || len(st.Details()) > 0 {
		x.Errorf("%s: %v", what, err)
	}
}

// attackMethods calls all methods of a server on a keyspace that mallory may not enter.
func (x *tenancy) attackMethods(s *compose.Server, name string) {
	plain := x.dial(s, x.mallory, localhost)
	bySNI := x.dial(s, x.mallory, name+"."+domain)
	mine := x.dial(s, x.mallory, mallorys+"."+domain)
	cert := url.PathEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: x.victim.Cert.Raw})))
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	named := metadata.AppendToOutgoingContext(ctx, compose.KeyspaceMetadata, name)
	forged := metadata.AppendToOutgoingContext(named, tlsconf.ClientMetadata, cert)
	methods := s.GRPC.Methods()
	if len(methods) < 50 {
		x.Fatalf("only %d methods", len(methods))
	}
	for _, m := range methods {
		if strings.HasPrefix(m, "/grpc.health.") { // belongs to the process, not to a keyspace
			continue
		}
		what := m + " of " + name
		host := grpc.CallAuthority(name + "." + domain)
		for how, err := range map[string]error{
			"metadata":    x.call(named, plain, m),
			"host":        x.call(ctx, plain, m, host),
			"server name": x.call(ctx, bySNI, m, grpc.CallAuthority("127.0.0.1")),
			"both":        x.call(ctx, bySNI, m),
			"forged":      x.call(forged, plain, m),
			"relayed":     x.call(metadata.AppendToOutgoingContext(forged, "headwater-relayed", "1"), plain, m),
			"forwarded":   x.call(metadata.AppendToOutgoingContext(forged, lease.ForwardedKey, "1"), plain, m),
			"from within": x.call(metadata.AppendToOutgoingContext(forged, "headwater-relayed", "1"), mine, m),
		} {
			x.expect(what+" by "+how, err, codes.PermissionDenied, noEntry)
		}
		x.expect(what+" by two hosts", x.call(ctx, mine, m, host), codes.InvalidArgument,
			"headwater: the host and the server name of TLS name different keyspaces")
		x.expect(what+" by metadata from within", x.call(named, mine, m), codes.InvalidArgument,
			"headwater: host and metadata name different keyspaces")
	}
}

// paths are paths of the gateway.
var paths = []string{
	"kv/range", "kv/put", "kv/deleterange", "kv/txn", "kv/compaction", "watch", "lease/grant", "lease/keepalive",
	"lease/leases", "kv/lease/timetolive", "lock/lock", "election/observe", "election/campaign", "maintenance/status",
	"maintenance/alarm", "maintenance/snapshot", "cluster/member/list", "auth/status",
	"auth/authenticate", "auth/user/list",
}

// attackGateway tries the same through the gateway.
func (x *tenancy) attackGateway(s *compose.Server) {
	ask := func(path, sni, host, header string) string {
		h := &http.Client{Transport: &http.Transport{
			TLSClientConfig: x.tls(x.mallory, sni), DisableKeepAlives: true, ForceAttemptHTTP2: true,
		}}
		defer h.CloseIdleConnections()
		r, err := http.NewRequestWithContext(x.Context(), http.MethodPost, s.URL()+"/v3/"+path,
			bytes.NewBufferString(`{"key":"aw=="}`))
		if err != nil {
			x.Fatal(err)
		}
		if host != "" {
			r.Host = host + "." + domain
		}
		if header != "" {
			r.Header.Set("Grpc-Metadata-Headwater-Keyspace", header)
		}
		a, err := h.Do(r)
		if err != nil {
			x.Fatal(err)
		}
		defer a.Body.Close()
		body, err := io.ReadAll(a.Body)
		if err != nil {
			x.Fatal(err)
		}
		return fmt.Sprint(a.StatusCode, " ", string(body))
	}
	for _, path := range paths {
		for _, name := range []string{victims, dark, unknown} {
			for how, got := range map[string]string{
				"host": ask(path, localhost, name, ""), "header": ask(path, localhost, "", name),
				"server name": ask(path, name+"."+domain, "", ""),
			} {
				if !strings.HasPrefix(got, "403 ") || !strings.Contains(got, noEntry) {
					x.Errorf("%s of %s by %s: %s", path, name, how, got)
				}
			}
		}
	}
	if got := ask("kv/range", mallorys+"."+domain, victims, ""); !strings.HasPrefix(got, "400 ") {
		x.Error("two hosts:", got)
	}
	if got := ask("kv/range", localhost, mallorys, ""); !strings.HasPrefix(got, "200 ") {
		x.Error("its own:", got)
	}
}

// attackLeases uses the id of the victim's lease in mallory's own keyspace. The answers must be those for a lease that
// never existed.
func (x *tenancy) attackLeases(s *compose.Server, theirs clientv3.LeaseID) {
	c := x.client(s, x.mallory, mallorys)
	none := func(what string, err error) {
		if !strings.Contains(fmt.Sprint(err), "requested lease not found") {
			x.Errorf("%s: %v", what, err)
		}
	}
	for _, id := range []clientv3.LeaseID{theirs, theirs ^ 1} {
		r, err := c.TimeToLive(x.Context(), id, clientv3.WithAttachedKeys())
		if err != nil || r.TTL != -1 || len(r.Keys) > 0 {
			x.Error("time to live:", r, err)
		}
		_, err = c.KeepAliveOnce(x.Context(), id)
		none("keep-alive", err)
		_, err = c.Revoke(x.Context(), id)
		none("revoke", err)
		_, err = c.Put(x.Context(), "k", "v", clientv3.WithLease(id))
		none("put", err)
	}
	if r, err := c.Leases(x.Context()); err != nil || len(r.Leases) > 0 {
		x.Error("leases:", r, err)
	}
}

// live makes the victim do what a tenant does, through one server, and returns one of its leases.
func (x *tenancy) live(s *compose.Server) clientv3.LeaseID {
	x.Helper()
	c := x.client(s, x.victim, victims)
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	l, err := c.Grant(ctx, 600)
	if err != nil {
		x.Fatal(err)
	}
	put(x.T, c, "k", "secret", clientv3.WithLease(l.ID))
	if _, err := c.KeepAliveOnce(ctx, l.ID); err != nil {
		x.Error(err)
	}
	session, err := concurrency.NewSession(c, concurrency.WithContext(ctx))
	if err != nil {
		x.Fatal(err)
	}
	m := concurrency.NewMutex(session, "m")
	if err := m.Lock(ctx); err != nil {
		x.Error(err)
	}
	if err := session.Close(); err != nil {
		x.Error(err)
	}
	conn := x.dial(s, x.victim, victims+"."+domain)
	if err := x.call(ctx, conn, pb.Maintenance_Status_FullMethodName); err != nil {
		x.Error(err)
	}
	return l.ID
}

// attack makes all attacks.
func (x *tenancy) attack() {
	for _, s := range x.servers {
		theirs := x.live(s)
		for _, name := range []string{victims, dark, unknown, "No_Name"} {
			x.attackMethods(s, name)
		}
		x.attackLeases(s, theirs)
		if got := get(x.T, x.client(s, x.mallory, mallorys), "k"); got != "" {
			x.Errorf("mallory reads %q", got)
		}
	}
	x.attackGateway(x.servers[0])
}

// revoke takes the victim's right to enter away. Its watches end on each server, and nobody can enter any more.
func (x *tenancy) revoke() {
	ctx, cancel := context.WithTimeout(x.Context(), patience)
	defer cancel()
	var watches []clientv3.WatchChan
	for _, s := range x.servers {
		w := x.client(s, x.victim, victims).Watch(ctx, "k", clientv3.WithCreatedNotify())
		if r := <-w; !r.Created {
			x.Fatal(r)
		}
		watches = append(watches, w)
	}
	if _, err := x.admin.Change(ctx, &adminv1.ChangeRequest{
		Name: victims, Settings: &adminv1.Settings{Access: &keyspacev1.AccessRule{}},
		Mask: &fieldmaskpb.FieldMask{Paths: []string{"access"}},
	}); err != nil {
		x.Fatal(err)
	}
	for i, w := range watches {
		for r := range w {
			if len(r.Events) > 0 {
				x.Error(r)
			}
		}
		if ctx.Err() != nil {
			x.Errorf("the watch through server %d has not ended", i)
		}
		conn := x.dial(x.servers[i], x.victim, victims+"."+domain)
		x.expect("the victim itself", x.call(ctx, conn, pb.KV_Range_FullMethodName), codes.PermissionDenied, noEntry)
	}
}

// TestTenants: a tenant with a certificate of its own cannot reach its neighbour's data, and does not learn whether
// there is a neighbour.
func TestTenants(t *testing.T) {
	x := newTenancy(t)
	x.servers = append(x.servers, server(t, x.configure))
	x.populate()
	x.attack()
	x.revoke()
}

// TestPodTenants: the same holds for pods of all kinds, which relay calls with the client's names over mutual TLS.
func TestPodTenants(t *testing.T) {
	x := newTenancy(t)
	dir, err := os.MkdirTemp("", "hwpeer") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	peer := func(k config.Kind) string { return "unixs://" + filepath.Join(dir, fmt.Sprint(k)) }
	d := deploy(t, 1, func(k config.Kind, _ int, c *config.Config) {
		x.configure(c)
		c.ListenPeerURLs = []string{peer(k)}
		c.PeerTLS = config.TLS{
			CertFile: x.own.CertFile, KeyFile: x.own.KeyFile, TrustedCAFile: x.ca.CAFile, AllowedCNs: []string{"pod"},
		}
		c.KVEndpoints, c.WatchHubEndpoints = []string{peer(config.KV)}, []string{peer(config.WatchHub)}
		c.LeaseKeeperEndpoints = []string{peer(config.LeaseKeeper)}
	})
	for _, k := range []config.Kind{config.KV, config.WatchHub, config.LeaseKeeper} {
		x.servers = append(x.servers, d.pod(k, 0))
	}
	x.populate()
	x.attack()
	x.revoke()
}
