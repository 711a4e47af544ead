package sidebyside

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// AuthPair compares two servers with users and roles. It sends each request on behalf of a user, and compares
// permissions like everything else. It compares a watch only at its creation, because only Headwater ends a watch whose
// client may no longer watch.
type AuthPair struct {
	*Pair
	r      *rand.Rand
	tokens [][2]string // pairs of tokens, of the reference and of the server under test, from the same request
	// Sparse says that revisions of the server under test have gaps. Then revisions of keys are not compared.
	Sparse bool
}

// NewAuthPair returns a pair whose requests are random under a seed.
func NewAuthPair(p *Pair, seed uint64) *AuthPair {
	return &AuthPair{Pair: p, r: rand.New(rand.NewPCG(seed, 0))}
}

var (
	authUsers     = []string{"root", "u1", "u2", "u3", "nobody", ""}
	authRoles     = []string{"root", "r1", "r2", "nothing", ""}
	authPasswords = []string{"p", "q"}
	authKeys      = []string{"a", "a\x00", "b", "bb", "c", "\x00", "\xff"}
	authEnds      = []string{"", "", "", "b", "bb\x00", "c", "z", "\x00", "a"}
)

func pickOf[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// Sequence runs n random operations, after operations that set up users with permissions. At the end it removes all
// users. It returns the operations that ran, and the first difference.
func (a *AuthPair) Sequence(n int) (ops []string, d *Difference, err error) {
	a.tokens = nil
	run := func(op Op, who int) bool {
		d = a.do(op, who)
		ops = append(ops, fmt.Sprintf("%d %s", who, op))
		return d == nil
	}
	setUp := []Op{
		{Kind: "UserAdd", Req: &pb.AuthUserAddRequest{Name: "root", Password: "p"}},
		{Kind: "UserAdd", Req: &pb.AuthUserAddRequest{Name: "u1", Password: "p"}},
		{Kind: "RoleAdd", Req: &pb.AuthRoleAddRequest{Name: "r1"}},
		{Kind: "UserGrantRole", Req: &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}},
		{Kind: "UserGrantRole", Req: &pb.AuthUserGrantRoleRequest{User: "u1", Role: "r1"}},
		{Kind: "RoleGrantPermission", Req: &pb.AuthRoleGrantPermissionRequest{Name: "r1", Perm: a.permission()}},
		{Kind: "AuthEnable", Req: &pb.AuthEnableRequest{}},
		{Kind: "Authenticate", Req: &pb.AuthenticateRequest{Name: "root", Password: "p"}},
		{Kind: "Authenticate", Req: &pb.AuthenticateRequest{Name: "u1", Password: "p"}},
	}
	for _, op := range setUp {
		if !run(op, nobodyAtAll) {
			return ops, d, nil
		}
	}
	for range n {
		if !run(a.op(), a.who()) {
			return ops, d, nil
		}
	}
	return ops, nil, a.cleanUp()
}

// For whom an operation acts, if not for the owner of a token.
const (
	nobodyAtAll = -1
	badToken    = -2
)

func (a *AuthPair) who() int {
	switch n := a.r.IntN(20); {
	case n == 0:
		return badToken
	case n < 3 || len(a.tokens) == 0:
		return nobodyAtAll
	case n < 10:
		return 0 // of root, at first
	}
	return a.r.IntN(len(a.tokens))
}

// do sends an operation on somebody's behalf and compares.
func (a *AuthPair) do(op Op, who int) *Difference {
	for i, t := range []*Target{a.Ref, a.SUT} {
		switch who {
		case nobodyAtAll:
			t.token = ""
		case badToken:
			t.token = "no.token"
		default:
			t.token = a.tokens[who][i]
		}
	}
	if op.Kind == kindWatch {
		create := op.Req.(*pb.WatchRequest).GetCreateRequest()
		ref, sut := a.both(func(t *Target) outcome { return t.watchOnce(create) })
		return a.compareAuth(op, ref, sut)
	}
	ref, sut := a.both(func(t *Target) outcome { return t.call(op, proto.Clone(op.Req)) })
	x, ok := ref.msg.(*pb.AuthenticateResponse)
	y, also := sut.msg.(*pb.AuthenticateResponse)
	if ok && also {
		a.tokens = append(a.tokens, [2]string{x.GetToken(), y.GetToken()})
		x.Token, y.Token = "", ""
	}
	d := a.compareAuth(op, ref, sut)
	// A pod answers a keep-alive with users and roles that may be a second or two old (T26).
	for begin := time.Now(); d != nil && a.Sparse && op.Kind == "LeaseKeepAlive" && time.Since(begin) < patience; {
		time.Sleep(progressInterval)
		d = a.compareAuth(op, ref, a.SUT.call(op, proto.Clone(op.Req)))
	}
	return d
}

func (a *AuthPair) compareAuth(op Op, ref, sut outcome) *Difference {
	if a.Sparse {
		for _, m := range []proto.Message{ref.msg, sut.msg} {
			if m != nil {
				eraseRevisions(m.ProtoReflect())
			}
		}
	}
	return a.compare(op, op.Req, ref, sut)
}

// eraseRevisions sets all fields to zero that are revisions of keys.
func eraseRevisions(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() == protoreflect.Int64Kind && strings.HasSuffix(string(f.Name()), "revision"):
			m.Clear(f)
		case f.IsList() && f.Message() != nil:
			for i := range v.List().Len() {
				eraseRevisions(v.List().Get(i).Message())
			}
		case !f.IsList() && !f.IsMap() && f.Message() != nil:
			eraseRevisions(v.Message())
		}
		return true
	})
}

// watchOnce creates a watch on a stream of its own and returns the answer.
func (t *Target) watchOnce(create *pb.WatchCreateRequest) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if t.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", t.token)
	}
	stream, err := t.clients.watch.Watch(context.WithValue(ctx, watching{}, true))
	if err == nil {
		err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	}
	if err != nil {
		return failed(err)
	}
	res, err := stream.Recv()
	if err != nil {
		return failed(err)
	}
	return outcome{msg: res}
}

func (a *AuthPair) permission() *authpb.Permission {
	return &authpb.Permission{
		PermType: authpb.Permission_Type(a.r.IntN(3)),
		Key:      []byte(pickOf(a.r, authKeys)),
		RangeEnd: []byte(pickOf(a.r, authEnds)),
	}
}

// op is a random operation.
func (a *AuthPair) op() Op {
	if a.r.IntN(3) == 0 {
		return a.manage()
	}
	return a.use()
}

// manage returns an operation about users and roles. Root keeps a password.
func (a *AuthPair) manage() Op {
	r := a.r
	user, role, password := pickOf(r, authUsers), pickOf(r, authRoles), pickOf(r, authPasswords)
	switch r.IntN(20) {
	case 0, 1:
		o := &authpb.UserAddOptions{NoPassword: user != "root" && r.IntN(4) == 0}
		if r.IntN(2) == 0 && !o.NoPassword {
			o = nil
		}
		return Op{Kind: "UserAdd", Req: &pb.AuthUserAddRequest{Name: user, Password: password, Options: o}}
	case 2:
		return Op{Kind: "UserDelete", Req: &pb.AuthUserDeleteRequest{Name: user}}
	case 3:
		return Op{Kind: "UserChangePassword", Req: &pb.AuthUserChangePasswordRequest{Name: user, Password: password}}
	case 4, 5:
		return Op{Kind: "UserGrantRole", Req: &pb.AuthUserGrantRoleRequest{User: user, Role: role}}
	case 6:
		return Op{Kind: "UserRevokeRole", Req: &pb.AuthUserRevokeRoleRequest{Name: user, Role: role}}
	case 7:
		return Op{Kind: "RoleAdd", Req: &pb.AuthRoleAddRequest{Name: role}}
	case 8:
		return Op{Kind: "RoleDelete", Req: &pb.AuthRoleDeleteRequest{Role: role}}
	case 9, 10, 11:
		p := a.permission()
		if r.IntN(10) == 0 {
			p = nil
		}
		return Op{Kind: "RoleGrantPermission", Req: &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p}}
	case 12:
		p := a.permission()
		return Op{
			Kind: "RoleRevokePermission",
			Req:  &pb.AuthRoleRevokePermissionRequest{Role: role, Key: p.Key, RangeEnd: p.RangeEnd},
		}
	case 13:
		return Op{Kind: "UserGet", Req: &pb.AuthUserGetRequest{Name: user}}
	case 14:
		return Op{Kind: "RoleGet", Req: &pb.AuthRoleGetRequest{Role: role}}
	case 15:
		return pickOf(r, []Op{
			{Kind: "UserList", Req: &pb.AuthUserListRequest{}},
			{Kind: "RoleList", Req: &pb.AuthRoleListRequest{}},
			{Kind: "AuthStatus", Req: &pb.AuthStatusRequest{}},
		})
	case 16:
		if r.IntN(4) == 0 {
			return Op{Kind: "AuthDisable", Req: &pb.AuthDisableRequest{}}
		}
		return Op{Kind: "AuthEnable", Req: &pb.AuthEnableRequest{}}
	}
	return Op{Kind: "Authenticate", Req: &pb.AuthenticateRequest{Name: user, Password: password}}
}

// use returns an operation that needs permissions.
func (a *AuthPair) use() Op {
	r := a.r
	key, end := a.keys()
	lease := int64(r.IntN(4))
	switch r.IntN(22) {
	case 0, 1, 2:
		return Op{Kind: "Range", Req: a.rangeRequest()}
	case 3:
		return Op{Kind: "RangeStream", Req: a.rangeRequest()}
	case 4, 5, 6, 7:
		return Op{Kind: "Put", Req: a.put()}
	case 8, 9:
		return Op{Kind: "DeleteRange", Req: &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: r.IntN(2) == 0}}
	case 10, 11, 12:
		return Op{Kind: "Txn", Req: a.txn(0)}
	case 13:
		return Op{Kind: "LeaseGrant", Req: &pb.LeaseGrantRequest{ID: 1 + lease, TTL: 3600}}
	case 14:
		return Op{Kind: "LeaseRevoke", Req: &pb.LeaseRevokeRequest{ID: 1 + lease}}
	case 15:
		return Op{Kind: "LeaseTimeToLive", Req: &pb.LeaseTimeToLiveRequest{ID: 1 + lease, Keys: r.IntN(3) > 0}}
	case 16:
		return Op{Kind: "LeaseKeepAlive", Req: &pb.LeaseKeepAliveRequest{ID: 1 + lease}}
	case 17:
		return Op{Kind: "LeaseLeases", Req: &pb.LeaseLeasesRequest{}}
	case 18, 19:
		c := &pb.WatchCreateRequest{Key: key, RangeEnd: end, StartRevision: int64(r.IntN(3)) - 1}
		if r.IntN(10) == 0 {
			c.Key = nil
		}
		return Op{
			Kind: kindWatch,
			Req:  &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}},
		}
	}
	return pickOf(r, []Op{
		{Kind: "MemberList", Req: &pb.MemberListRequest{}},
		{Kind: "Status", Req: &pb.StatusRequest{}},
		{Kind: "Alarm", Req: &pb.AlarmRequest{}},
		{Kind: "HashKV", Req: &pb.HashKVRequest{}},
		{Kind: "Alarm", Req: &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}},
		{Kind: "Hash", Req: &pb.HashRequest{}},
		{Kind: "Defragment", Req: &pb.DefragmentRequest{}},
		{Kind: "Downgrade", Req: &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: "3.0"}},
		{Kind: "MemberRemove", Req: &pb.MemberRemoveRequest{ID: 5}},
		{Kind: "Compact", Req: &pb.CompactionRequest{Revision: -1}},
	})
}

// keys returns a range that is not empty. Whether etcd allows an empty range depends on the form of its tree of
// permissions (T24).
func (a *AuthPair) keys() (key, end []byte) {
	k, e := pickOf(a.r, authKeys), pickOf(a.r, authEnds)
	if len(e) > 0 && e != "\x00" && k >= e {
		e = ""
	}
	return []byte(k), []byte(e)
}

func (a *AuthPair) rangeRequest() *pb.RangeRequest {
	r := a.r
	key, end := a.keys()
	return &pb.RangeRequest{
		Key: key, RangeEnd: end, Serializable: r.IntN(4) == 0, CountOnly: r.IntN(6) == 0,
	}
}

func (a *AuthPair) put() *pb.PutRequest {
	p := &pb.PutRequest{Key: []byte(pickOf(a.r, authKeys)), Value: []byte("v"), PrevKv: a.r.IntN(4) == 0}
	if a.r.IntN(3) == 0 {
		p.Lease = int64(1 + a.r.IntN(4))
	}
	return p
}

func (a *AuthPair) txn(depth int) *pb.TxnRequest {
	t := &pb.TxnRequest{}
	for range a.r.IntN(2) {
		key, end := a.keys()
		c := &pb.Compare{Key: key, Target: pb.Compare_VERSION, Result: pb.Compare_GREATER}
		c.TargetUnion = &pb.Compare_Version{Version: 0}
		if a.r.IntN(2) == 0 {
			c.RangeEnd = end
		}
		t.Compare = append(t.Compare, c)
	}
	if a.r.IntN(4) > 0 {
		t.Success = append(t.Success, a.txnOp(depth))
	}
	if a.r.IntN(3) == 0 {
		t.Failure = append(t.Failure, a.txnOp(depth))
	}
	return t
}

func (a *AuthPair) txnOp(depth int) *pb.RequestOp {
	switch n := a.r.IntN(5); {
	case n == 0 && depth < 2:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: a.txn(depth + 1)}}
	case n == 1:
		key, end := a.keys()
		d := &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: a.r.IntN(2) == 0}
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: d}}
	case n == 2:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: a.rangeRequest()}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: a.put()}}
}

// cleanUp disables authentication and removes all users, roles, leases and keys.
func (a *AuthPair) cleanUp() error {
	for _, t := range []*Target{a.Ref, a.SUT} {
		if err := t.endAuth(); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}

func (t *Target) endAuth() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	c := &t.clients
	for _, password := range authPasswords {
		if r, err := c.auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "root", Password: password}); err == nil {
			as := metadata.AppendToOutgoingContext(ctx, "token", r.GetToken())
			if _, err := c.auth.AuthDisable(as, &pb.AuthDisableRequest{}); err != nil {
				return err
			}
		}
	}
	users, err := c.auth.UserList(ctx, &pb.AuthUserListRequest{})
	if err != nil {
		return err
	}
	for _, name := range users.GetUsers() {
		if _, err := c.auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: name}); err != nil {
			return err
		}
	}
	roles, err := c.auth.RoleList(ctx, &pb.AuthRoleListRequest{})
	if err != nil {
		return err
	}
	for _, name := range roles.GetRoles() {
		if _, err := c.auth.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: name}); err != nil {
			return err
		}
	}
	leases, err := c.lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return err
	}
	for _, l := range leases.GetLeases() {
		if _, err := c.lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: l.GetID()}); err != nil {
			return err
		}
	}
	_, err = c.kv.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	return err
}
