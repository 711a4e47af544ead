package keyspaces

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

const authNotEnabled = "etcdserver: authentication is not enabled"

// login authenticates a user and returns the token.
func login(ctx context.Context, c *grpc.ClientConn, name, password string) (string, error) {
	r, err := pb.NewAuthClient(c).Authenticate(ctx, &pb.AuthenticateRequest{Name: name, Password: password})
	return r.GetToken(), err
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

// TestUserAtKeyspace: the user name in an Authenticate can name the keyspace, if nothing else does and no user has the
// whole name. Later the token names it. Neither lets a client into a closed keyspace.
func TestUserAtKeyspace(t *testing.T) {
	s := server(t, func(c *config.Config) { c.BcryptCost, c.UserAtKeyspace = auth.CostMin, true })
	a := adminOf(t, s)
	for name, rule := range map[string]*keyspacev1.AccessRule{"corp": nil, dark: {}} {
		if _, err := a.Create(t.Context(), &adminv1.CreateRequest{
			Name: name, Settings: &adminv1.Settings{Access: rule},
		}); err != nil {
			t.Fatal(err)
		}
	}
	enableUsers(t, client(t, s, "corp"))
	conn, ctx := dialPlain(t, s), t.Context()
	token, err := login(ctx, conn, "bob@corp", "bob")
	if err != nil {
		t.Fatal(err)
	}
	kv := pb.NewKVClient(conn)
	if _, err := kv.Put(withToken(ctx, token), &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, client(t, s, ""), "k"); got != "" {
		t.Errorf("written into the first keyspace: %q", got)
	}
	inCorp := metadata.AppendToOutgoingContext(ctx, compose.KeyspaceMetadata, "corp")
	r, err := kv.Range(withToken(inCorp, token), &pb.RangeRequest{Key: []byte("k")})
	if err != nil || len(r.Kvs) != 1 {
		t.Error(r, err)
	}
	for _, who := range []struct {
		ctx            context.Context
		name, password string
		code           codes.Code
		text           string
	}{
		{ctx, "bob@corp", "wrong", codes.InvalidArgument, authFailed},
		{ctx, "nobody@corp", "bob", codes.InvalidArgument, authFailed},
		{ctx, "bob@" + unknown, "bob", codes.InvalidArgument, authFailed},
		{ctx, "bob@" + dark, "bob", codes.InvalidArgument, authFailed},
		{ctx, "bob@No Name", "bob", codes.InvalidArgument, authFailed},
		{ctx, "x@bob@corp", "bob", codes.InvalidArgument, authFailed},  // user x@bob
		{inCorp, "bob@corp", "bob", codes.InvalidArgument, authFailed}, // the metadata have named it already
		{ctx, "bob@default", "bob", codes.FailedPrecondition, authNotEnabled},
		{ctx, "bob@", "bob", codes.FailedPrecondition, authNotEnabled},
		{ctx, "@corp", "bob", codes.FailedPrecondition, authNotEnabled},
		// An old token names no keyspace.
		{withToken(ctx, token), "bob", "bob", codes.FailedPrecondition, authNotEnabled},
	} {
		_, err := login(who.ctx, conn, who.name, who.password)
		expectStatus(t, who.name, err, who.code, who.text)
	}
	bare, _, _ := strings.Cut(token, "@")
	get := func(token string) error {
		_, err := kv.Range(withToken(ctx, token), &pb.RangeRequest{Key: []byte("k")})
		return err
	}
	eventually(t, "the table has been read since", func() bool {
		return status.Code(get(bare+"@"+unknown)) == codes.PermissionDenied
	})
	expectStatus(t, "a closed one", get(bare+"@"+dark), codes.PermissionDenied, noEntry)
	expectStatus(t, "one that is not there", get(bare+"@"+unknown), codes.PermissionDenied, noEntry)
	userClients(t, s)

	// A user with such a name takes precedence.
	if _, err := client(t, s, "").UserAdd(ctx, "bob@corp", "own"); err != nil {
		t.Fatal(err)
	}
	enableAuth(t, client(t, s, ""))
	if token, err := login(ctx, conn, "bob@corp", "own"); err != nil || strings.Contains(token, "@") {
		t.Error(token, err)
	}
	_, err = login(ctx, conn, "bob@corp", "bob")
	expectStatus(t, "the user of the other", err, codes.InvalidArgument, authFailed)
	expectStatus(t, "the first keyspace", get(bare), codes.Unauthenticated, invalidToken)
}

// userClients uses clientv3 and the gateway with a user name that names the keyspace.
func userClients(t *testing.T, s *compose.Server) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{s.URL()}, Username: "bob@corp", Password: "bob", Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l, err := c.Grant(t.Context(), 600)
	if err == nil {
		_, err = c.KeepAliveOnce(t.Context(), l.ID)
	}
	if err != nil {
		t.Error(err)
	}
	rev := put(t, c, "c", "v")
	if w := <-c.Watch(bounded(t.Context(), t), "c", clientv3.WithRev(rev)); len(w.Events) != 1 {
		t.Error(w)
	}
	post := func(path, body, token string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", token)
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	answer := post("/v3/auth/authenticate", `{"name":"bob@corp","password":"bob"}`, "")
	_, rest, _ := strings.Cut(answer, `"token":"`)
	token, _, ok := strings.Cut(rest, `"`)
	if got := post("/v3/kv/range", `{"key":"Yw=="}`, token); !ok || !strings.Contains(got, `"count":"1"`) {
		t.Error(answer, got)
	}
}

// TestNoUserAtKeyspace: without the flag such a name is an ordinary user name.
func TestNoUserAtKeyspace(t *testing.T) {
	s := server(t, func(c *config.Config) { c.BcryptCost = auth.CostMin })
	create(t, s, "corp", nil)
	enableUsers(t, client(t, s, "corp"))
	conn := dialPlain(t, s)
	_, err := login(t.Context(), conn, "bob@corp", "bob")
	expectStatus(t, "a name", err, codes.FailedPrecondition, authNotEnabled)
	ctx := withToken(t.Context(), "x@corp")
	if _, err := pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err != nil {
		t.Error("a token in a keyspace without authentication:", err)
	}
}

// TestPodsUserAtKeyspace: the same holds for pods of each kind, which relay the request and the calls with its token.
func TestPodsUserAtKeyspace(t *testing.T) {
	t.Parallel() // it waits for most of its time
	d := deploy(t, 1, func(_ config.Kind, _ int, c *config.Config) {
		c.BcryptCost, c.UserAtKeyspace = auth.CostMin, true
	})
	d.create("corp")
	enableUsers(t, d.client(config.KV, 0, "corp"))
	for _, k := range []config.Kind{config.KV, config.WatchHub, config.LeaseKeeper} {
		conn := d.client(k, 0, "").ActiveConnection()
		var token string
		eventually(t, "authenticated", func() (ok bool) {
			var err error
			token, err = login(t.Context(), conn, "bob@corp", "bob")
			if err != nil && status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
			return err == nil
		})
		eventually(t, "written", func() bool {
			_, err := pb.NewKVClient(conn).Put(withToken(t.Context(), token), &pb.PutRequest{Key: []byte("k")})
			if err != nil && status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
			return err == nil
		})
		eventually(t, "asked for leases", func() bool {
			_, err := pb.NewLeaseClient(conn).LeaseLeases(withToken(t.Context(), token), &pb.LeaseLeasesRequest{})
			if err != nil && status.Code(err) != codes.Unavailable {
				t.Fatal(err)
			}
			return err == nil
		})
		for _, name := range []string{"bob@" + unknown, "nobody@corp"} {
			_, err := login(t.Context(), conn, name, "bob")
			expectStatus(t, name, err, codes.InvalidArgument, authFailed)
		}
	}
}
