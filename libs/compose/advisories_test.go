package compose

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
)

// advisory is a published fault of etcd, or of what etcd stands on, and how it is known not to be one here.
type advisory struct {
	id string
	// try does here what the fault was.
	try func(*guarded)
	// test is a test elsewhere that does, as directory of a package and name.
	test string
	// module and since: the fault is in a module, and gone from that version on.
	module, since string
}

var advisories = []advisory{
	{id: "CVE-2018-1098", test: "libs/server TestHTTPEndpoints"},
	{id: "CVE-2018-5702", test: "libs/server TestHTTPEndpoints"},
	{id: "CVE-2018-16886", test: "libs/etcdapi TestCertificateNames"},
	{id: "CVE-2020-15106", test: "libs/engine/pebble TestDamage"},
	{id: "CVE-2020-15112", test: "libs/engine/pebble TestScanLog"},
	{id: "CVE-2020-15113", test: "tests/hostile TestPermissions"},
	{id: "CVE-2020-15114", test: "libs/relay TestLoop"},
	{id: "CVE-2020-15115", try: emptyPasswords},
	{id: "CVE-2020-15136", test: "libs/relay TestEndpoints"},
	{id: "CVE-2021-28235", test: "libs/compose TestNoSecretIsLogged"},
	{id: "CVE-2023-32082", try: keysOfALease},
	{id: "CVE-2023-44487", module: "google.golang.org/grpc", since: "v1.58.3"},
	{id: "CVE-2023-47108", test: "tests/hostile TestLabels"},
	{id: "CVE-2024-24786", module: "google.golang.org/protobuf", since: "v1.33.0"},
	{id: "CVE-2025-30204", module: "github.com/golang-jwt/jwt/v5", since: "v5.2.2"},
	{id: "CVE-2026-33186", module: "google.golang.org/grpc", since: "v1.79.3", try: methodWithoutSlash},
	{id: "CVE-2026-33343", try: nestedTransactions},
	{id: "CVE-2026-33413", test: "libs/compose TestGuardEveryMethod"},
	{id: "CVE-2026-44283", try: putsInTransactions},
	{id: "GHSA-xg4h-6gfc-h4m8", try: explicitEmptyEnd},
	{id: "GHSA-6vch-q96h-7gc3", test: "libs/server TestSilence"},
	{id: "GHSA-3wh4-j44w-pg92", test: "libs/server TestSplitHTTP"},
}

// TestAdvisories goes through them, and finds each in SECURITY.md.
func TestAdvisories(t *testing.T) {
	doc, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range advisories {
		t.Run(a.id, func(t *testing.T) {
			if !bytes.Contains(doc, []byte(a.id)) {
				t.Error("SECURITY.md does not name it")
			}
			if a.try == nil && a.test == "" && a.module == "" {
				t.Fatal("nothing shows that it is none here")
			}
			if a.test != "" {
				checkTest(t, a.test)
			}
			if a.module != "" && older(version(mod, a.module), a.since) {
				t.Errorf("%s is %s, the fault is gone from %s on", a.module, version(mod, a.module), a.since)
			}
			if a.try != nil {
				a.try(newGuarded(t))
			}
		})
	}
}

// checkTest finds a test in its package.
func checkTest(t *testing.T, name string) {
	t.Helper()
	dir, test, _ := strings.Cut(name, " ")
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(dir, err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte("\nfunc "+test+"(t *testing.T)")) {
			return
		}
	}
	t.Errorf("there is no %s", name)
}

// version is that of a module in a go.mod.
func version(mod []byte, module string) string {
	m := regexp.MustCompile(regexp.QuoteMeta(module) + ` (v[0-9.]+)`).FindSubmatch(mod)
	if m == nil {
		return "v0.0.0"
	}
	return string(m[1])
}

// older compares versions, number by number.
func older(a, b string) bool {
	x, y := strings.Split(a[1:], "."), strings.Split(b[1:], ".")
	for i := range y {
		if len(x[i]) != len(y[i]) {
			return len(x[i]) < len(y[i])
		}
		if x[i] != y[i] {
			return x[i] < y[i]
		}
	}
	return false
}

// user adds a user with a role that has permissions, and returns a context on the user's behalf.
func (g *guarded) user(name string, perms ...*pb.AuthRoleGrantPermissionRequest) context.Context {
	g.Helper()
	a := pb.NewAuthClient(g.conn)
	_, err := a.UserAdd(g.root, &pb.AuthUserAddRequest{Name: name, Password: name})
	g.must(err)
	_, err = a.RoleAdd(g.root, &pb.AuthRoleAddRequest{Name: name})
	g.must(err)
	_, err = a.UserGrantRole(g.root, &pb.AuthUserGrantRoleRequest{User: name, Role: name})
	g.must(err)
	for _, p := range perms {
		p.Name = name
		_, err = a.RoleGrantPermission(g.root, p)
		g.must(err)
	}
	return g.as(name)
}

func grant(kind authpb.Permission_Type, key, end string) *pb.AuthRoleGrantPermissionRequest {
	p := permission(key, end)
	p.PermType = kind
	return &pb.AuthRoleGrantPermissionRequest{Perm: p}
}

func (g *guarded) denied(what string, err error) {
	g.Helper()
	if status.Code(err) != codes.PermissionDenied {
		g.Errorf("%s: %v", what, err)
	}
}

// emptyPasswords: there is no least length of a password, as in etcd; but a user without one has no password that is
// empty either.
func emptyPasswords(g *guarded) {
	a := pb.NewAuthClient(g.conn)
	_, err := a.UserAdd(g.root, &pb.AuthUserAddRequest{Name: "none", Options: &authpb.UserAddOptions{NoPassword: true}})
	g.must(err)
	for _, name := range []string{"none", "nobody", ""} {
		if r, err := a.Authenticate(g.Context(), &pb.AuthenticateRequest{Name: name}); err == nil {
			g.Errorf("%q: %v", name, r)
		}
	}
}

// keysOfALease: who may not read the keys on a lease is not told them, by any request.
func keysOfALease(g *guarded) {
	l, kv := pb.NewLeaseClient(g.conn), pb.NewKVClient(g.conn)
	granted, err := l.LeaseGrant(g.root, &pb.LeaseGrantRequest{TTL: 60})
	g.must(err)
	_, err = kv.Put(g.root, &pb.PutRequest{Key: []byte("secret"), Lease: granted.GetID()})
	g.must(err)
	_, err = l.LeaseTimeToLive(g.weak, &pb.LeaseTimeToLiveRequest{ID: granted.GetID(), Keys: true})
	g.denied("TimeToLive", err)
	if r, err := l.LeaseTimeToLive(g.weak, &pb.LeaseTimeToLiveRequest{ID: granted.GetID()}); err != nil ||
		len(r.GetKeys()) > 0 {
		g.Error(r, err)
	}
	_, err = l.LeaseLeases(g.weak, &pb.LeaseLeasesRequest{})
	g.denied("Leases", err)
	_, err = l.LeaseRevoke(g.weak, &pb.LeaseRevokeRequest{ID: granted.GetID()})
	g.denied("Revoke", err)
	alive, err := l.LeaseKeepAlive(g.weak)
	g.must(err)
	g.must(alive.Send(&pb.LeaseKeepAliveRequest{ID: granted.GetID()}))
	_, err = alive.Recv()
	g.denied("KeepAlive", err)
}

// methodWithoutSlash: what is allowed is decided where a request is carried out, and not by its path.
func methodWithoutSlash(g *guarded) {
	for _, path := range []string{
		"etcdserverpb.KV/Put", "//etcdserverpb.KV/Put", "/etcdserverpb.KV//Put", "/etcdserverpb.KV/Put/",
	} {
		if err := g.conn.Invoke(g.weak, path, &pb.PutRequest{Key: []byte("k")}, &pb.PutResponse{}); err == nil {
			g.Errorf("%s was answered", path)
		}
	}
	r, err := pb.NewKVClient(g.conn).Range(g.root, &pb.RangeRequest{Key: []byte("k")})
	g.must(err)
	if r.GetCount() != 0 {
		g.Error("the key is there")
	}
}

// nestedTransactions: operations of transactions in transactions need what they need elsewhere.
func nestedTransactions(g *guarded) {
	kv := pb.NewKVClient(g.conn)
	ops := []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}},
		{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("k")}}},
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("k")}}},
	}
	for _, op := range ops {
		for range 4 { // deeper and deeper, in either branch
			_, err := kv.Txn(g.weak, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
			g.denied("success", err)
			_, err = kv.Txn(g.weak, &pb.TxnRequest{Failure: []*pb.RequestOp{op}})
			g.denied("failure", err)
			op = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: []*pb.RequestOp{op}}}}
		}
	}
	compare := &pb.TxnRequest{Compare: []*pb.Compare{{Key: []byte("k"), Target: pb.Compare_VALUE}}}
	nested := &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: compare}}
	_, err := kv.Txn(g.weak, &pb.TxnRequest{Success: []*pb.RequestOp{nested}})
	g.denied("nested compare", err)
}

// putsInTransactions: a put in a transaction needs to read for prev_kv, and to write the keys that are on its lease.
func putsInTransactions(g *guarded) {
	kv, l := pb.NewKVClient(g.conn), pb.NewLeaseClient(g.conn)
	writer := g.user("writer", grant(authpb.Permission_WRITE, "w", ""))
	granted, err := l.LeaseGrant(g.root, &pb.LeaseGrantRequest{TTL: 60})
	g.must(err)
	_, err = kv.Put(g.root, &pb.PutRequest{Key: []byte("theirs"), Lease: granted.GetID()})
	g.must(err)
	for name, put := range map[string]*pb.PutRequest{
		"prev_kv": {Key: []byte("w"), PrevKv: true}, "lease": {Key: []byte("w"), Lease: granted.GetID()},
	} {
		_, err = kv.Put(writer, put)
		g.denied(name, err)
		op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
		for range 3 {
			_, err = kv.Txn(writer, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
			g.denied(name+" in a transaction", err)
			op = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Success: []*pb.RequestOp{op}}}}
		}
	}
	_, err = kv.DeleteRange(writer, &pb.DeleteRangeRequest{Key: []byte("w"), PrevKv: true})
	g.denied("delete with prev_kv", err)
	_, err = kv.Put(writer, &pb.PutRequest{Key: []byte("w")})
	g.must(err)
}

// explicitEmptyEnd: a range end that is there and empty means one key, for what is allowed and for what is sent.
func explicitEmptyEnd(g *guarded) {
	reader, kv := g.user("reader", grant(authpb.Permission_READ, "k", "")), pb.NewKVClient(g.conn)
	create := &pb.WatchCreateRequest{Key: []byte("k")}
	create.ProtoReflect().SetUnknown([]byte{2<<3 | 2, 0}) // range_end, of no bytes
	w, err := pb.NewWatchClient(g.conn).Watch(reader)
	g.must(err)
	g.must(w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}))
	if r, err := w.Recv(); err != nil || r.GetCanceled() {
		g.Fatal(r, err)
	}
	for _, key := range []string{"k1", "l", "k"} {
		_, err := kv.Put(g.root, &pb.PutRequest{Key: []byte(key)})
		g.must(err)
	}
	if r, err := w.Recv(); err != nil || len(r.GetEvents()) != 1 || string(r.Events[0].Kv.Key) != "k" {
		g.Error(r, err)
	}
	query := &pb.RangeRequest{Key: []byte("k")}
	query.ProtoReflect().SetUnknown([]byte{2<<3 | 2, 0})
	if r, err := kv.Range(reader, query); err != nil || r.GetCount() != 1 {
		g.Error(r, err)
	}
}

// TestNoSecretIsLogged: no password, hash, token or value comes into the log, whatever level it has.
func TestNoSecretIsLogged(t *testing.T) {
	var out syncBuffer
	eng, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default(config.Standalone)
	c.ListenClientURLs, c.ListenAdminURLs, c.BcryptCost = []string{"http://127.0.0.1:0"}, []string{"none"}, auth.CostMin
	c.WarningUnaryRequestDuration = 1 // every request is logged as slow
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug - 10}))
	s, err := Start(t.Context(), config.Standalone, c, Parts{Engine: eng, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(s.Close(), eng.Close()); err != nil {
			t.Error(err)
		}
	}()
	const secret = "s3cr3t-of-the-test"
	conn := dial(t, s)
	a, kv := pb.NewAuthClient(conn), pb.NewKVClient(conn)
	g := &guarded{T: t, s: s, conn: conn}
	ctx := t.Context()
	_, err = a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: secret})
	g.must(err)
	_, err = a.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: "root", Password: secret + "2"})
	g.must(err)
	_, err = a.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: "nobody", Password: secret})
	if err == nil {
		t.Error("nobody has got a password")
	}
	_, _ = a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "long", Password: strings.Repeat(secret, 10)})
	_, err = a.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	g.must(err)
	_, err = a.AuthEnable(ctx, &pb.AuthEnableRequest{})
	g.must(err)
	_, _ = a.Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: secret + "wrong"})
	_, _ = a.Authenticate(ctx, &pb.AuthenticateRequest{Name: "nobody", Password: secret})
	r, err := a.Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: secret + "2"})
	g.must(err)
	_, _ = kv.Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte(secret)})
	if text := out.String(); !strings.Contains(text, "user added") ||
		!strings.Contains(text, "authentication refused") {
		t.Error("the log does not say what has been done")
	} else if strings.Contains(text, secret) || strings.Contains(text, r.GetToken()) || strings.Contains(text, "$2a$") {
		t.Errorf("the log has a secret:\n%s", text)
	}
}

// syncBuffer is a buffer for many goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
