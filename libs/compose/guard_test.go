package compose

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	cpb "github.com/headwaterdb/headwater/protos/headwater/concurrency/v1"
)

// guarded is a standalone server in memory with users: root, and weak, who has no role.
type guarded struct {
	*testing.T
	s          *Server
	conn       *grpc.ClientConn
	root, weak context.Context
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	eng, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default(config.Standalone)
	c.ListenClientURLs, c.ListenAdminURLs, c.BcryptCost = []string{"http://127.0.0.1:0"}, []string{"none"}, auth.CostMin
	s, err := Start(t.Context(), config.Standalone, c, Parts{Engine: eng})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), eng.Close()); err != nil {
			t.Error(err)
		}
	})
	g := &guarded{T: t, s: s, conn: dial(t, s)}
	a := pb.NewAuthClient(g.conn)
	ctx := t.Context()
	for _, name := range []string{"root", "weak"} {
		_, err = a.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: name})
		g.must(err)
	}
	_, err = a.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	g.must(err)
	_, err = a.AuthEnable(ctx, &pb.AuthEnableRequest{})
	g.must(err)
	g.root, g.weak = g.as("root"), g.as("weak")
	return g
}

func (g *guarded) must(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

// as is a context on a user's behalf.
func (g *guarded) as(name string) context.Context {
	g.Helper()
	r, err := pb.NewAuthClient(g.conn).Authenticate(g.Context(), &pb.AuthenticateRequest{Name: name, Password: name})
	g.must(err)
	return metadata.AppendToOutgoingContext(g.Context(), "token", r.GetToken())
}

// valid are requests for methods that refuse an empty one before they look at anything else, as etcd does.
var valid = map[string]proto.Message{
	"/etcdserverpb.KV/Range":                &pb.RangeRequest{Key: []byte("k")},
	"/etcdserverpb.KV/RangeStream":          &pb.RangeRequest{Key: []byte("k")},
	"/etcdserverpb.KV/Put":                  &pb.PutRequest{Key: []byte("k")},
	"/etcdserverpb.KV/DeleteRange":          &pb.DeleteRangeRequest{Key: []byte("k")},
	"/etcdserverpb.Auth/UserGet":            &pb.AuthUserGetRequest{Name: "root"}, // "" is who nobody is
	"/etcdserverpb.Auth/UserChangePassword": &pb.AuthUserChangePasswordRequest{Name: "root", Password: "x"},
	"/etcdserverpb.KV/Txn": &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("k")}}}},
	}}}}},
	"/etcdserverpb.Watch/Watch": &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")},
	}},
	"/etcdserverpb.Maintenance/Alarm": &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE},
	"/v3lockpb.Lock/Lock":             &cpb.LockRequest{Name: []byte("l")},
	"/v3lockpb.Lock/Unlock":           &cpb.UnlockRequest{Key: []byte("l")},
	"/v3electionpb.Election/Campaign": &cpb.CampaignRequest{Name: []byte("e")},
	"/v3electionpb.Election/Leader":   &cpb.LeaderRequest{Name: []byte("e")},
	"/v3electionpb.Election/Observe":  &cpb.LeaderRequest{Name: []byte("e")},
	"/v3electionpb.Election/Proclaim": &cpb.ProclaimRequest{Leader: &cpb.LeaderKey{Name: []byte("e"), Key: []byte("e"), Rev: 1}},
	"/v3electionpb.Election/Resign":   &cpb.ResignRequest{Leader: &cpb.LeaderKey{Name: []byte("e"), Key: []byte("e"), Rev: 1}},
}

var (
	// forAnybody are the methods that need nobody to act for.
	forAnybody = []string{
		"/etcdserverpb.Auth/AuthStatus", "/etcdserverpb.Auth/Authenticate",
		"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List", "/grpc.health.v1.Health/Watch",
	}
	// forUsers are those that a user without a role may call, about what is nobody's.
	forUsers = []string{
		"/etcdserverpb.Cluster/MemberList", "/etcdserverpb.Maintenance/Status", "/etcdserverpb.Lease/LeaseGrant",
		"/etcdserverpb.Lease/LeaseRevoke", "/etcdserverpb.Lease/LeaseKeepAlive", "/etcdserverpb.Lease/LeaseTimeToLive",
		"/etcdserverpb.Lease/LeaseLeases",
	}
)

// call sends one request to a method, unary or not, and returns the error; that of a watch is why it is canceled.
func (g *guarded) call(ctx context.Context, method string) error {
	g.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req := valid[method]
	if req == nil {
		req = &emptypb.Empty{}
	}
	stream, err := g.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	g.must(err)
	_ = stream.SendMsg(req) // the answer says what has become of it
	_ = stream.CloseSend()
	answer := proto.Message(&emptypb.Empty{})
	if strings.HasSuffix(method, "/Watch") {
		answer = &pb.WatchResponse{}
	}
	err = stream.RecvMsg(answer)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if w, ok := answer.(*pb.WatchResponse); ok && err == nil && w.GetCanceled() {
		return status.Error(codes.PermissionDenied, w.GetCancelReason())
	}
	return err
}

// refused says that an error is about who the caller is.
func refused(err error) bool {
	text := status.Convert(err).Message()
	return slices.ContainsFunc([]string{
		"etcdserver: permission denied", "etcdserver: user name is empty", "etcdserver: invalid auth token",
	}, func(why string) bool { return strings.Contains(text, why) })
}

// TestGuardEveryMethod goes through every method of every service that the server has registered, whatever comes to be
// registered: without a token, with one that is none, and on behalf of a user without a role.
func TestGuardEveryMethod(t *testing.T) {
	g := newGuarded(t)
	methods := g.s.GRPC.Methods()
	if len(methods) < 50 {
		t.Fatalf("only %d methods", len(methods))
	}
	bad := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer no.token")
	for _, method := range methods {
		if !etcdapi.HasRule(method) {
			t.Errorf("%s has no rule: add it to those of etcdapi", method)
		}
		if slices.Contains(forAnybody, method) {
			continue
		}
		for who, ctx := range map[string]context.Context{"nobody": t.Context(), "no token": bad} {
			if err := g.call(ctx, method); !refused(err) {
				t.Errorf("%s on behalf of %s: %v", method, who, err)
			}
		}
		if err := g.call(g.weak, method); refused(err) == slices.Contains(forUsers, method) {
			t.Errorf("%s on behalf of a user without a role: %v", method, err)
		}
	}
}

// TestGuardUnknownMethod: a method without a rule is denied to everybody, root too.
func TestGuardUnknownMethod(t *testing.T) {
	g := newGuarded(t)
	var d grpc.ServiceDesc
	register := registrarFunc(func(desc *grpc.ServiceDesc, _ any) { d = *desc })
	g.s.Keyspace.guard.Registrar(register).RegisterService(&grpc.ServiceDesc{
		ServiceName: "new.Service",
		Methods: []grpc.MethodDesc{{MethodName: "New", Handler: func(
			_ any, ctx context.Context, dec func(any) error, in grpc.UnaryServerInterceptor,
		) (any, error) {
			req := new(emptypb.Empty)
			if err := dec(req); err != nil {
				return nil, err
			}
			return in(ctx, req, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) {
				t.Error("called")
				return nil, nil
			})
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", Handler: func(any, grpc.ServerStream) error {
			t.Error("called")
			return nil
		}}},
	}, nil)
	md, _ := metadata.FromOutgoingContext(g.root)
	root := metadata.NewIncomingContext(t.Context(), md)
	_, err := d.Methods[0].Handler(nil, root, func(any) error { return nil }, nil)
	if status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	if err := d.Streams[0].Handler(nil, streamOf{ctx: root}); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
}

type registrarFunc func(*grpc.ServiceDesc, any)

func (f registrarFunc) RegisterService(d *grpc.ServiceDesc, impl any) { f(d, impl) }

type streamOf struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamOf) Context() context.Context { return s.ctx }

// TestWatchEndsWithItsPermission: a watch is canceled when its client may no longer watch, whatever takes the
// permission away, and no event that comes after it is delivered; one that may go on gets everything.
func TestWatchEndsWithItsPermission(t *testing.T) {
	for name, revoke := range map[string]func(*guarded, pb.AuthClient) error{
		"permission": func(g *guarded, a pb.AuthClient) error {
			_, err := a.RoleRevokePermission(g.root, &pb.AuthRoleRevokePermissionRequest{
				Role: "r", Key: []byte("k"), RangeEnd: []byte("l"),
			})
			return err
		},
		"role": func(g *guarded, a pb.AuthClient) error {
			_, err := a.UserRevokeRole(g.root, &pb.AuthUserRevokeRoleRequest{Name: "weak", Role: "r"})
			return err
		},
		"role deleted": func(g *guarded, a pb.AuthClient) error {
			_, err := a.RoleDelete(g.root, &pb.AuthRoleDeleteRequest{Role: "r"})
			return err
		},
		"user deleted": func(g *guarded, a pb.AuthClient) error {
			_, err := a.UserDelete(g.root, &pb.AuthUserDeleteRequest{Name: "weak"})
			return err
		},
		"password": func(g *guarded, a pb.AuthClient) error {
			_, err := a.UserChangePassword(g.root, &pb.AuthUserChangePasswordRequest{Name: "weak", Password: "new"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuarded(t)
			a, kv := pb.NewAuthClient(g.conn), pb.NewKVClient(g.conn)
			_, err := a.RoleAdd(g.root, &pb.AuthRoleAddRequest{Name: "r"})
			g.must(err)
			_, err = a.RoleGrantPermission(g.root, &pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: permission("k", "l")})
			g.must(err)
			_, err = a.UserGrantRole(g.root, &pb.AuthUserGrantRoleRequest{User: "weak", Role: "r"})
			g.must(err)
			mine, theirs := g.watch(g.weak, "k", "l"), g.watch(g.root, "k", "l")
			put := func(value string) {
				_, err := kv.Put(g.root, &pb.PutRequest{Key: []byte("k"), Value: []byte(value)})
				g.must(err)
			}
			put("before")
			if err := revoke(g, a); err != nil {
				t.Fatal(err)
			}
			put("after")
			for ended := false; !ended; {
				r, err := mine.Recv()
				g.must(err)
				for _, ev := range r.GetEvents() {
					if string(ev.GetKv().GetValue()) != "before" {
						t.Fatalf("delivered after the permission had been taken away: %v", ev)
					}
				}
				if ended = r.GetCanceled(); ended && !refused(errors.New(r.GetCancelReason())) {
					t.Errorf("reason %q", r.GetCancelReason())
				}
			}
			var values []string
			for len(values) < 2 { // one response may have both
				r, err := theirs.Recv()
				g.must(err)
				for _, ev := range r.GetEvents() {
					values = append(values, string(ev.GetKv().GetValue()))
				}
			}
			if !slices.Equal(values, []string{"before", "after"}) {
				t.Errorf("root's watch: %q", values)
			}
		})
	}
}

// watch creates a watch and waits for the answer.
func (g *guarded) watch(ctx context.Context, key, end string) pb.Watch_WatchClient {
	g.Helper()
	w, err := pb.NewWatchClient(g.conn).Watch(ctx)
	g.must(err)
	g.must(w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}))
	if r, err := w.Recv(); err != nil || r.GetCanceled() {
		g.Fatal(r, err)
	}
	return w
}

func permission(key, end string) *authpb.Permission {
	return &authpb.Permission{PermType: authpb.Permission_READWRITE, Key: []byte(key), RangeEnd: []byte(end)}
}
