package keyspaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/mvcc"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

const (
	userEmpty    = "etcdserver: user name is empty"
	invalidToken = "etcdserver: invalid auth token"
	authFailed   = "etcdserver: authentication failed, invalid user ID or password"
	reopened     = "headwater: the keyspace's settings have changed, try again"
)

// restrict changes the access rule of a keyspace.
func restrict(t *testing.T, a admin, name string, rule *keyspacev1.AccessRule) {
	t.Helper()
	k, err := a.Change(t.Context(), &adminv1.ChangeRequest{
		Name: name, Settings: &adminv1.Settings{Access: rule}, Mask: &fieldmaskpb.FieldMask{Paths: []string{"access"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if k.GetOpen() != rule.GetOpen() || !rule.GetOpen() && !proto.Equal(k.GetSettings().GetAccess(), rule) {
		t.Fatalf("set to %v: %v", rule, k)
	}
}

// methods returns the methods of a server that act on a keyspace.
func methods(s *compose.Server) (all []string) {
	for _, m := range s.GRPC.Methods() {
		if !strings.HasPrefix(m, "/grpc.health.") {
			all = append(all, m)
		}
	}
	return all
}

// bounded returns a context that bounds how long a test waits for the server to end something.
func bounded(ctx context.Context, t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	return ctx
}

// lasting opens the streams that last until somebody ends them. All have been let in. Each function waits for the end
// of its stream.
func lasting(ctx context.Context, t *testing.T, c *grpc.ClientConn) map[string]func() error {
	t.Helper()
	ctx = bounded(ctx, t)
	// Pods may not have found each other yet.
	found := func(what string, err error) bool {
		if err != nil && status.Code(err) != codes.Unavailable {
			t.Fatal(what, err)
		}
		return err == nil
	}
	stream := func(method string, first proto.Message, answer proto.Message) func() error {
		var s grpc.ClientStream
		eventually(t, method, func() bool {
			var err error
			s, err = c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
			if err == nil {
				_ = s.SendMsg(first) // the answer has the error
				err = s.RecvMsg(answer)
			}
			return found(method, err)
		})
		return func() error {
			for {
				if err := s.RecvMsg(&pb.WatchResponse{}); err != nil {
					return err
				}
			}
		}
	}
	var granted *pb.LeaseGrantResponse
	eventually(t, "granted", func() bool {
		var err error
		granted, err = pb.NewLeaseClient(c).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 600})
		return found("grant", err)
	})
	return map[string]func() error{
		"watch": stream(pb.Watch_Watch_FullMethodName, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")},
		}}, &pb.WatchResponse{}),
		"keep-alive": stream(pb.Lease_LeaseKeepAlive_FullMethodName, &pb.LeaseKeepAliveRequest{ID: granted.ID},
			&pb.LeaseKeepAliveResponse{}),
	}
}

// begunSnapshot begins a snapshot, of which the client reads only the first message. The snapshot is too large for the
// buffers on its way.
func begunSnapshot(ctx context.Context, t *testing.T, c *grpc.ClientConn) (ended func() error) {
	t.Helper()
	put := &pb.PutRequest{Key: []byte("large"), Value: make([]byte, 1<<20)}
	if _, err := pb.NewKVClient(c).Put(ctx, put); err != nil {
		t.Fatal(err)
	}
	s, err := pb.NewMaintenanceClient(c).Snapshot(ctx, &pb.SnapshotRequest{})
	if err == nil {
		_, err = s.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() error {
		for {
			switch r, err := s.Recv(); {
			case err != nil:
				return err
			case r.GetRemainingBytes() == 0:
				return errors.New("all of it has come")
			}
		}
	}
}

// TestClosedDefault closes a server's first keyspace. It checks every method, through gRPC and the gateway, the streams
// that are open at that moment, the methods that belong to no keyspace, and the next start.
func TestClosedDefault(t *testing.T) {
	x := newTenancy(t)
	dir := t.TempDir()
	configure := func(c *config.Config) {
		x.configure(c)
		c.DataDir = dir
		// The second listener requires no certificate.
		c.ListenClientURLs = append(c.ListenClientURLs, "http://127.0.0.1:0")
		c.ListenMetricsURLs = []string{"http://127.0.0.1:0"}
	}
	c := config.Default(config.Standalone)
	c.DiskReserveBytes, c.KeyspaceDomain = -1, domain
	configure(&c)
	s := start(t, c)
	a := adminOf(t, s)
	victim, mallory := x.dial(s, x.victim, localhost), x.dial(s, x.mallory, localhost)
	inside := lasting(t.Context(), t, mallory)
	inside["snapshot"] = begunSnapshot(t.Context(), t, mallory)
	waits := make(chan error, 1)
	waitForLock(t, mallory, waits)

	rule := &keyspacev1.AccessRule{Allow: []*keyspacev1.Certificate{{Cn: "victim-*"}}}
	restrict(t, a, compose.FirstKeyspace, rule)
	for what, ended := range inside {
		x.expect(what+" of before", ended(), codes.Unavailable, reopened)
	}
	x.expect("lock of before", <-waits, codes.Unavailable, reopened)
	if !s.Store.Features().Has(mvcc.FeatureAccess) {
		t.Error("an earlier release can serve it, and would let everybody in")
	}
	refused := func() {
		plain := x.dial(s, x.mallory, localhost)
		for _, m := range methods(s) {
			for how, md := range map[string][]string{
				"": nil, ", by name": {compose.KeyspaceMetadata, compose.FirstKeyspace},
			} {
				ctx := metadata.AppendToOutgoingContext(t.Context(), md...)
				x.expect(m+how, x.call(ctx, plain, m), codes.PermissionDenied, noEntry)
			}
		}
		x.expect("one that is not there", x.call(metadata.AppendToOutgoingContext(t.Context(),
			compose.KeyspaceMetadata, unknown), plain, pb.KV_Range_FullMethodName), codes.PermissionDenied, noEntry)
	}
	refused()
	for range 2 { // the second time after a restart
		if _, err := pb.NewKVClient(victim).Put(t.Context(), &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Error("the victim:", err)
		}
		x.closedHTTP(s)
		if k, err := a.Show(t.Context(), &adminv1.ShowRequest{Name: compose.FirstKeyspace}); err != nil ||
			!proto.Equal(k.GetSettings().GetAccess(), rule) || k.GetOpen() || !k.GetFirst() {
			t.Error(k, err)
		}
		stop(t, s)
		s = start(t, c)
		a, victim = adminOf(t, s), x.dial(s, x.victim, localhost)
		refused()
	}
	restrict(t, a, compose.FirstKeyspace, &keyspacev1.AccessRule{Open: true})
	if err := x.call(t.Context(), x.dial(s, x.mallory, localhost), pb.KV_Range_FullMethodName); err == nil ||
		status.Code(err) == codes.PermissionDenied {
		t.Error("opened again:", err) // an empty range has no key
	}
}

// waitForLock makes a client wait for a lock that another client holds, and sends the error with which that ends.
func waitForLock(t *testing.T, c *grpc.ClientConn, ended chan<- error) {
	t.Helper()
	ctx := bounded(t.Context(), t)
	lock := func() error {
		return c.Invoke(ctx, "/v3lockpb.Lock/Lock", &cpb.LockRequest{Name: []byte("lock")}, &cpb.LockResponse{})
	}
	if err := lock(); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- lock() }()
	eventually(t, "waiting", func() bool {
		r, err := pb.NewKVClient(c).Range(t.Context(), &pb.RangeRequest{
			Key: []byte("lock/"), RangeEnd: []byte("lock0"), CountOnly: true,
		})
		return err == nil && r.Count == 2
	})
}

// closedHTTP checks what a server serves over HTTP while its first keyspace is closed.
func (x *tenancy) closedHTTP(s *compose.Server) {
	x.Helper()
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: x.tls(x.mallory, localhost)}}
	defer h.CloseIdleConnections()
	for _, test := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/health", 200},
		{http.MethodGet, "/readyz", 200},
		{http.MethodGet, "/livez", 200},
		{http.MethodGet, "/version", 200},
		{http.MethodGet, "/metrics", 403},
		{http.MethodPost, "/v3/kv/range", 403},
		{http.MethodPost, "/v3/auth/authenticate", 403},
		{http.MethodPost, "/v3/watch", 403},
	} {
		r, err := http.NewRequestWithContext(x.Context(), test.method, s.URL()+test.path,
			strings.NewReader(`{"key":"aw=="}`))
		if err != nil {
			x.Fatal(err)
		}
		a, err := h.Do(r)
		if err != nil {
			x.Fatal(err)
		}
		body, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if a.StatusCode != test.want {
			x.Errorf("%s: %d %s", test.path, a.StatusCode, body)
		}
	}
}

// TestEnterByUser: if an access rule names users, they enter by their tokens, and nobody else does, whatever the
// method. A client that has not entered cannot distinguish the keyspace from one that does not exist.
func TestEnterByUser(t *testing.T) {
	s := server(t, func(c *config.Config) { c.BcryptCost = auth.CostMin })
	a := adminOf(t, s)
	for name, limits := range map[string]*keyspacev1.Limits{"team": {ReadsPerSecond: 1, Streams: 1}, dark: nil} {
		if _, err := a.Create(t.Context(), &adminv1.CreateRequest{
			Name: name, Settings: &adminv1.Settings{Limits: limits},
		}); err != nil {
			t.Fatal(err)
		}
	}
	users := &keyspacev1.AccessRule{Users: []string{"bob", "root"}}
	enableUsers(t, client(t, s, "team"))
	enableUsers(t, client(t, s, ""))
	restrict(t, a, dark, &keyspacev1.AccessRule{})
	restrict(t, a, "team", users)
	restrict(t, a, compose.FirstKeyspace, users)
	conn := dialPlain(t, s)
	for _, name := range []string{"team", dark} {
		eventually(t, "closed", func() bool { // until then the server does not ask for users
			ctx := metadata.AppendToOutgoingContext(t.Context(), compose.KeyspaceMetadata, name)
			err := (&tenancy{T: t}).call(ctx, conn, pb.Auth_AuthStatus_FullMethodName)
			return status.Code(err) == codes.InvalidArgument
		})
	}
	for _, name := range []string{"team", compose.FirstKeyspace, dark, unknown, "No_Name"} {
		strangersRefused(t, s, conn, name)
	}
	for _, name := range []string{"team", compose.FirstKeyspace} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), compose.KeyspaceMetadata, name)
		r, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "bob", Password: "bob"})
		if err != nil {
			t.Fatal(name, err)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, r.Token)
		// The requests of strangers have not counted against the limits.
		if _, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil {
			t.Error(name, err)
		}
		w, err := pb.NewWatchClient(conn).Watch(bounded(ctx, t))
		if err == nil {
			err = w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
				CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")},
			}})
		}
		if err == nil {
			_, err = w.Recv()
		}
		if err != nil {
			t.Fatal(name, err)
		}
		restrict(t, a, name, &keyspacev1.AccessRule{Users: []string{"root"}})
		if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
			t.Error("the watch of who may not enter any more:", err)
		}
		_, err = pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")})
		expectStatus(t, name+", bob, who is named no more", err, codes.Unauthenticated, invalidToken)
	}
}

// strangersRefused tries every method on a keyspace without a user, with an invalid token, and with passwords of all
// kinds.
func strangersRefused(t *testing.T, s *compose.Server, conn *grpc.ClientConn, name string) {
	t.Helper()
	x := &tenancy{T: t}
	ctx := metadata.AppendToOutgoingContext(t.Context(), compose.KeyspaceMetadata, name)
	wrong := metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, "none.none")
	peer := metadata.AppendToOutgoingContext(ctx, "headwater-peer-token", "none.none", "headwater-forwarded", "1")
	for _, m := range methods(s) {
		if m == pb.Auth_Authenticate_FullMethodName {
			continue
		}
		x.expect(m+" of "+name, x.call(ctx, conn, m), codes.InvalidArgument, userEmpty)
		x.expect(m+" of "+name+" as a peer", x.call(peer, conn, m), codes.InvalidArgument, userEmpty)
		x.expect(m+" of "+name+" with a token", x.call(wrong, conn, m), codes.Unauthenticated, invalidToken)
	}
	for _, ctx := range []context.Context{ctx, wrong} {
		for _, who := range [][2]string{
			{"bob", "wrong"}, {"nobody", "bob"}, {"weak", "weak"}, {"empty", ""}, {"", ""},
		} {
			_, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: who[0], Password: who[1]})
			x.expect(fmt.Sprint(who, " of ", name), err, codes.InvalidArgument, authFailed)
		}
	}
}

func expectStatus(t *testing.T, what string, err error, code codes.Code, text string) {
	t.Helper()
	(&tenancy{T: t}).expect(what, err, code, text)
}

// dialPlain connects to a server without etcd's client, which retries for seconds when its token is refused.
func dialPlain(t *testing.T, s *compose.Server) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(strings.TrimPrefix(s.URL(), "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// enableUsers makes users: bob has a password and a role, weak a password, empty none.
func enableUsers(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	_, err := c.UserAdd(ctx, "bob", "bob")
	if err == nil {
		_, err = c.UserAddWithOptions(ctx, "empty", "", &clientv3.UserAddOptions{NoPassword: true})
	}
	if err == nil {
		_, err = c.RoleAdd(ctx, "all")
	}
	if err == nil {
		_, err = c.RoleGrantPermission(ctx, "all", "\x00", "\x00", clientv3.PermissionType(clientv3.PermReadWrite))
	}
	if err == nil {
		_, err = c.UserGrantRole(ctx, "bob", "all")
	}
	if err != nil {
		t.Fatal(err)
	}
	enableAuth(t, c)
}

// TestUsersBeforeAuth: while authentication is disabled, before and after, a rule lets nobody in by a user's name. A
// client with a certificate that the same rule names may enter all the time.
func TestUsersBeforeAuth(t *testing.T) {
	x := newTenancy(t)
	s := server(t, func(c *config.Config) { x.configure(c); c.BcryptCost = auth.CostMin })
	x.servers = append(x.servers, s)
	x.admin = adminOf(t, s)
	x.create(victims, &keyspacev1.AccessRule{
		Allow: []*keyspacev1.Certificate{{Cn: "victim-*"}}, Users: []string{"bob"},
	})
	theirs := x.client(s, x.victim, victims)
	conn := x.dial(s, x.mallory, victims+"."+domain)
	login := func() error {
		_, err := pb.NewAuthClient(conn).Authenticate(t.Context(),
			&pb.AuthenticateRequest{Name: "bob", Password: "bob"})
		return err
	}
	expectStatus(t, "before", login(), codes.InvalidArgument, authFailed)
	enableUsers(t, theirs)
	if err := login(); err != nil {
		t.Error("a user:", err)
	}
	mallory, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.URL()}, TLS: x.tls(x.mallory, victims+"."+domain), Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithAuthority(victims + "." + domain)}, Username: "bob", Password: "bob",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer mallory.Close()
	put(t, mallory, "k", "v")
	if w := <-mallory.Watch(bounded(t.Context(), t), "k", clientv3.WithRev(1)); len(w.Events) != 1 {
		t.Error(w)
	}
	_, err = theirs.Get(t.Context(), "k") // the certificate lets it in, although its common name is not a user
	if err == nil || strings.Contains(err.Error(), noEntry) {
		t.Error("a client that enters by its certificate:", err)
	}
	root, err := theirs.Authenticate(t.Context(), "root", "root")
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, root.Token)
	if _, err := theirs.AuthDisable(ctx); err != nil {
		t.Fatal(err)
	}
	expectStatus(t, "after", login(), codes.InvalidArgument, authFailed)
	if _, err := theirs.Get(t.Context(), "k"); err != nil {
		t.Error("a client that enters by its certificate:", err)
	}
}

// TestClosedDefaultPods: pods of all kinds obey the access rule of the keyspace that they were started with, and a rule
// that names users in a keyspace that all pods serve. Lease keepers still reach each other.
func TestClosedDefaultPods(t *testing.T) {
	t.Parallel() // it waits for most of its time
	x := newTenancy(t)
	dir, err := os.MkdirTemp("", "hwpeer") //nolint:usetesting // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	peer := func(k config.Kind, i int) string { return "unixs://" + filepath.Join(dir, fmt.Sprint(k, i)) }
	d := deploy(t, 2, func(k config.Kind, i int, c *config.Config) {
		x.configure(c)
		c.BcryptCost = auth.CostMin
		c.ListenPeerURLs = []string{peer(k, i)}
		c.PeerTLS = config.TLS{
			CertFile: x.own.CertFile, KeyFile: x.own.KeyFile, TrustedCAFile: x.ca.CAFile, AllowedCNs: []string{"pod"},
		}
		c.KVEndpoints = []string{peer(config.KV, 0), peer(config.KV, 1)}
		c.WatchHubEndpoints = []string{peer(config.WatchHub, 0)}
		c.LeaseKeeperEndpoints = []string{peer(config.LeaseKeeper, 0)}
	})
	for _, k := range []config.Kind{config.KV, config.WatchHub, config.LeaseKeeper} {
		x.servers = append(x.servers, d.pod(k, 0))
	}
	a := adminOf(t, x.servers[0])
	x.admin = a
	inside := map[string]func() error{}
	for _, s := range x.servers {
		for what, ended := range lasting(t.Context(), t, x.dial(s, x.mallory, localhost)) {
			inside[fmt.Sprint(what, " through ", s.Kind)] = ended
		}
	}
	restrict(t, a, "default", &keyspacev1.AccessRule{Allow: []*keyspacev1.Certificate{{Cn: "victim-*"}}})
	for what, ended := range inside {
		if err := ended(); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, s := range x.servers {
		conn := x.dial(s, x.mallory, localhost)
		eventually(t, "closed", func() bool {
			return status.Code(x.call(t.Context(), conn, pb.KV_Range_FullMethodName)) == codes.PermissionDenied
		})
		for _, m := range methods(s) {
			x.expect(fmt.Sprint(m, " through ", s.Kind), x.call(t.Context(), conn, m), codes.PermissionDenied, noEntry)
		}
	}
	leasesEverywhere(t, x)

	// Now a rule that names users, in a keyspace that all pods serve. If a pod relays a call, the pod that answers
	// checks the rule.
	x.create("team", nil)
	restrict(t, a, "team", &keyspacev1.AccessRule{Open: true})
	enableUsers(t, x.client(x.servers[0], x.victim, "team"))
	restrict(t, a, "team", &keyspacev1.AccessRule{Users: []string{"bob"}})
	ctx := metadata.AppendToOutgoingContext(t.Context(), compose.KeyspaceMetadata, "team")
	// Wait until each pod has read the rule, which it applies to the methods that it serves itself.
	for k, method := range map[config.Kind]string{
		config.KV: pb.Auth_AuthStatus_FullMethodName, config.WatchHub: pb.Watch_Watch_FullMethodName,
		config.LeaseKeeper: pb.Lease_LeaseGrant_FullMethodName,
	} {
		for i := range d.Per {
			conn := x.dial(d.pod(k, i), x.mallory, localhost)
			eventually(t, "closed", func() bool {
				err := x.call(ctx, conn, method)
				return status.Code(err) == codes.InvalidArgument && status.Convert(err).Message() == userEmpty
			})
		}
	}
	for _, s := range x.servers {
		conn, ctx := x.dial(s, x.mallory, localhost), ctx
		for _, name := range []string{"team", unknown} {
			strangersRefused(t, s, conn, name)
		}
		r, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: "bob", Password: "bob"})
		if err != nil {
			t.Fatal(s.Kind, err)
		}
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, r.Token)
		if _, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("k")}); err != nil {
			t.Error(s.Kind, err)
		}
		lasting(ctx, t, conn)
	}
}

// leasesEverywhere makes the victim keep leases alive through one lease keeper. Another lease keeper keeps some of
// them.
func leasesEverywhere(t *testing.T, x *tenancy) {
	t.Helper()
	leases := pb.NewLeaseClient(x.dial(x.servers[2], x.victim, localhost))
	renew, err := leases.LeaseKeepAlive(bounded(t.Context(), t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 64 {
		l, err := leases.LeaseGrant(t.Context(), &pb.LeaseGrantRequest{ID: int64(i + 1), TTL: 600})
		if err == nil {
			err = renew.Send(&pb.LeaseKeepAliveRequest{ID: l.ID})
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err := renew.Recv(); err != nil || r.TTL != 600 {
			t.Fatalf("renewal of lease %d: %v, %v", i+1, r, err)
		}
	}
}
