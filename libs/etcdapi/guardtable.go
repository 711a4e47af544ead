package etcdapi

import (
	"context"
	"errors"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/auth"
)

// rule says which permission a method needs while authentication is enabled.
type rule int

const (
	denied   rule = iota // nobody may call it
	anybody              // nothing
	user                 // a valid user
	admin                // an administrator
	readings             // user for requests that only read, otherwise admin
	// own: the service itself calls the guard for each request that it carries out.
	own
	// asCallers: a valid user. The service makes requests to KV, Watch and Lease in the name of its caller.
	asCallers
)

// rules are the rules of all methods of all services. A method without a rule is denied to everybody.
var rules = map[string]rule{
	"/etcdserverpb.KV/Range":       own,
	"/etcdserverpb.KV/RangeStream": own,
	"/etcdserverpb.KV/Put":         own,
	"/etcdserverpb.KV/DeleteRange": own,
	"/etcdserverpb.KV/Txn":         own,
	"/etcdserverpb.KV/Compact":     own,

	"/etcdserverpb.Watch/Watch": own,

	"/etcdserverpb.Lease/LeaseGrant":      own,
	"/etcdserverpb.Lease/LeaseRevoke":     own,
	"/etcdserverpb.Lease/LeaseKeepAlive":  own,
	"/etcdserverpb.Lease/LeaseTimeToLive": own,
	"/etcdserverpb.Lease/LeaseLeases":     own,

	"/etcdserverpb.Cluster/MemberAdd":     admin,
	"/etcdserverpb.Cluster/MemberRemove":  admin,
	"/etcdserverpb.Cluster/MemberUpdate":  admin,
	"/etcdserverpb.Cluster/MemberPromote": admin,
	"/etcdserverpb.Cluster/MemberList":    user,

	"/etcdserverpb.Maintenance/Alarm":      readings,
	"/etcdserverpb.Maintenance/Status":     user,
	"/etcdserverpb.Maintenance/Defragment": admin,
	"/etcdserverpb.Maintenance/Hash":       admin,
	"/etcdserverpb.Maintenance/HashKV":     admin,
	"/etcdserverpb.Maintenance/Snapshot":   admin,
	"/etcdserverpb.Maintenance/MoveLeader": admin,
	"/etcdserverpb.Maintenance/Downgrade":  admin,

	"/etcdserverpb.Auth/AuthEnable":           own,
	"/etcdserverpb.Auth/AuthDisable":          own,
	"/etcdserverpb.Auth/AuthStatus":           own,
	"/etcdserverpb.Auth/Authenticate":         own,
	"/etcdserverpb.Auth/UserAdd":              own,
	"/etcdserverpb.Auth/UserGet":              own,
	"/etcdserverpb.Auth/UserList":             own,
	"/etcdserverpb.Auth/UserDelete":           own,
	"/etcdserverpb.Auth/UserChangePassword":   own,
	"/etcdserverpb.Auth/UserGrantRole":        own,
	"/etcdserverpb.Auth/UserRevokeRole":       own,
	"/etcdserverpb.Auth/RoleAdd":              own,
	"/etcdserverpb.Auth/RoleGet":              own,
	"/etcdserverpb.Auth/RoleList":             own,
	"/etcdserverpb.Auth/RoleDelete":           own,
	"/etcdserverpb.Auth/RoleGrantPermission":  own,
	"/etcdserverpb.Auth/RoleRevokePermission": own,

	"/v3lockpb.Lock/Lock":   asCallers,
	"/v3lockpb.Lock/Unlock": asCallers,

	"/v3electionpb.Election/Campaign": asCallers,
	"/v3electionpb.Election/Proclaim": asCallers,
	"/v3electionpb.Election/Leader":   asCallers,
	"/v3electionpb.Election/Observe":  asCallers,
	"/v3electionpb.Election/Resign":   asCallers,

	"/grpc.health.v1.Health/Check": anybody,
	"/grpc.health.v1.Health/List":  anybody,
	"/grpc.health.v1.Health/Watch": anybody,
}

// HasRule says whether there is a rule for a method, given its full name.
func HasRule(method string) bool {
	_, ok := rules[method]
	return ok
}

// Registrar returns r with the guard around every method. The guard checks the permission after the request has been
// decoded. A method without a rule is denied.
func (g *Guard) Registrar(r grpc.ServiceRegistrar) grpc.ServiceRegistrar {
	return &guardedRegistrar{ServiceRegistrar: r, g: g}
}

type guardedRegistrar struct {
	grpc.ServiceRegistrar
	g *Guard
}

// Draining implements drainer: it returns the context of the wrapped registrar.
func (r *guardedRegistrar) Draining() context.Context { return draining(r.ServiceRegistrar) }

// AddSent implements sentCounter: it passes the counts on to the wrapped registrar.
func (r *guardedRegistrar) AddSent(method string, messages, bytes int) {
	if c, ok := r.ServiceRegistrar.(sentCounter); ok {
		c.AddSent(method, messages, bytes)
	}
}

// RegisterService implements grpc.ServiceRegistrar.
func (r *guardedRegistrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods = append([]grpc.MethodDesc(nil), desc.Methods...)
	for i, m := range desc.Methods {
		full := "/" + desc.ServiceName + "/" + m.MethodName
		if rule := rules[full]; rule != own {
			d.Methods[i].Handler = r.g.unary(rule, m.Handler)
		}
	}
	d.Streams = append([]grpc.StreamDesc(nil), desc.Streams...)
	for i, m := range desc.Streams {
		full := "/" + desc.ServiceName + "/" + m.StreamName
		if rule := rules[full]; rule != own {
			d.Streams[i].Handler = r.g.stream(rule, m.Handler)
		}
	}
	r.ServiceRegistrar.RegisterService(&d, impl)
}

// unaryHandler is the type of grpc.MethodDesc.Handler.
type unaryHandler = func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error)

// unary wraps a method with its rule. The rule gets the request as it was decoded for the method itself.
func (g *Guard) unary(rule rule, handler unaryHandler) unaryHandler {
	return func(srv any, ctx context.Context, dec func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
		ask := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			answer := next
			if around != nil {
				answer = func(ctx context.Context, req any) (any, error) { return around(ctx, req, info, next) }
			}
			return g.allowed(ctx, rule.of(req), func() (any, error) { return answer(ctx, req) })
		}
		return handler(srv, ctx, dec, ask)
	}
}

// of returns the rule for one request.
func (r rule) of(req any) rule {
	if r != readings {
		return r
	}
	if a, ok := req.(*pb.AlarmRequest); ok && a.GetAction() == pb.AlarmRequest_GET {
		return user
	}
	return admin
}

// allowed answers a request that has the permission it needs. What every user may see is answered under the users and
// roles that the process knows. If the answer has made the process learn of newer ones, allowed decides again.
func (g *Guard) allowed(ctx context.Context, r rule, answer func() (any, error)) (resp any, err error) {
	switch {
	case r == anybody, r != denied && g.open() != nil && !g.o.Shared:
		return answer()
	case r == asCallers:
		if err := g.knows(ctx); err != nil {
			return nil, callersErr(err)
		}
		return answer()
	case r == user:
		err := g.during(ctx, needUser, func(func(need) error) (err error) {
			resp, err = answer()
			return err
		})
		return resp, Err(err)
	}
	if err := g.check(ctx, r.need()); err != nil {
		return nil, Err(err)
	}
	return answer()
}

// callersErr returns an error of a call that was made for its caller by clientv3, in the form that etcd sends: an error
// that clientv3 knows by its text has lost its code.
func callersErr(err error) error {
	err = Err(err)
	var known rpctypes.EtcdError
	if errors.As(rpctypes.Error(err), &known) && known.Code() != codes.Unavailable {
		return status.Error(codes.Unknown, known.Error())
	}
	return err
}

// knows checks that a call has a valid user, under the users and roles that the process knows.
func (g *Guard) knows(ctx context.Context) error {
	k, err := g.current(ctx)
	if err == nil {
		_, _, err = g.settle(ctx, k, needUser)
	}
	return err
}

// need is what a rule needs that is asked for before the answer.
func (r rule) need() need {
	switch r {
	case anybody:
		return func(*auth.State, auth.Identity) error { return nil }
	case user:
		return needUser
	case admin:
		return needAdmin
	}
	return func(*auth.State, auth.Identity) error { return auth.ErrPermissionDenied }
}

// stream is unary for a stream, whose rule is about all requests on it.
func (g *Guard) stream(rule rule, handler grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		ask := func(ctx context.Context) error { return Err(g.check(ctx, rule.need())) }
		if rule == asCallers {
			ask = func(ctx context.Context) error { return callersErr(g.knows(ctx)) }
		}
		if err := ask(stream.Context()); err != nil {
			return err
		}
		return handler(srv, stream)
	}
}
