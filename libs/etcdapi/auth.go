package etcdapi

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// RegisterAuth registers etcdserverpb.Auth, which changes the users and roles of g.
func RegisterAuth(r grpc.ServiceRegistrar, h Header, g *Guard) {
	pb.RegisterAuthServer(r, &authServer{header: h, g: g})
}

type authServer struct {
	header Header
	g      *Guard

	// UnsafeAuthServer makes an RPC added to the API a compile error here.
	pb.UnsafeAuthServer
}

// change is a change of users and roles.
type change func(*auth.State) (auth.Change, error)

// update makes a change in the name of a call. The call must be an administrator's when the change is made. what is for
// the log and must not contain a secret.
func (s *authServer) update(ctx context.Context, c change, what ...any) (*pb.ResponseHeader, error) {
	g := s.g
	who, made := credentialUser(g, ctx), false
	rev, err := g.store.UpdateAuth(ctx, func(number uint64, rows []mvcc.AuthRow) (uint64, []mvcc.AuthRow, error) {
		state, err := newState(number, rows)
		if err != nil {
			return 0, nil, err
		}
		id, _, err := g.identify(&known{State: state}, g.credentialOf(ctx))
		if state.Enabled() && err != nil {
			return 0, nil, err
		}
		if err := state.Admin(id); err != nil {
			return 0, nil, err
		}
		next, err := c(state)
		if err != nil {
			return 0, nil, err
		}
		made = next.Number != number
		set := make([]mvcc.AuthRow, len(next.Rows))
		for i, r := range next.Rows {
			set[i] = mvcc.AuthRow(r)
		}
		return next.Number, set, nil
	})
	if err != nil {
		return nil, Err(err)
	}
	if made {
		g.o.Log.Info("users and roles changed", append(slices.Clone(what), "by", who)...)
	}
	if _, err := g.current(ctx); err != nil {
		return nil, Err(err)
	}
	return s.header.At(rev), nil
}

// credentialUser returns the user of a call, for the log.
func credentialUser(g *Guard, ctx context.Context) string {
	id, _, _ := g.identify(g.known.Load(), g.credentialOf(ctx))
	return id.User
}

// look returns the newest users and roles, if the call has the permission that it needs.
func (s *authServer) look(ctx context.Context, may need) (*known, *pb.ResponseHeader, error) {
	head, err := s.g.store.Head(ctx)
	if err != nil {
		return nil, nil, Err(err)
	}
	k, err := s.g.current(ctx)
	if err == nil {
		_, err = s.g.decide(ctx, k, may)
	}
	if err != nil {
		return nil, nil, Err(err)
	}
	return k, s.header.At(head), nil
}

// AuthStatus needs no permission, but if the call has a token, it must be valid, as in etcd.
func (s *authServer) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	k, h, err := s.look(ctx, func(*auth.State, auth.Identity) error { return nil })
	if err != nil {
		return nil, err
	}
	return &pb.AuthStatusResponse{Header: h, Enabled: k.Enabled(), AuthRevision: k.Revision()}, nil
}

// Authenticate makes a token for a user who gives the right password.
func (s *authServer) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	head, err := s.g.store.Head(ctx)
	if err != nil {
		return nil, Err(err)
	}
	authenticate := s.g.authenticate
	if users, ok := ctx.Value(doorKey{}).([]string); ok {
		authenticate = func(ctx context.Context, name, password string) (string, error) {
			return s.g.authenticateAtDoor(ctx, users, name, password)
		}
	}
	token, err := authenticate(ctx, r.GetName(), r.GetPassword())
	r.Password = ""
	if err != nil {
		s.g.refused(r.GetName(), err)
		return nil, Err(err)
	}
	return &pb.AuthenticateResponse{Header: s.header.At(head), Token: named(ctx, token)}, nil
}

// AuthEnable makes requests need authentication from now on.
func (s *authServer) AuthEnable(ctx context.Context, _ *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	h, err := s.update(ctx, (*auth.State).Enable, "change", "enabled")
	if err != nil {
		return nil, err
	}
	return &pb.AuthEnableResponse{Header: h}, nil
}

// AuthDisable lets everybody do everything.
func (s *authServer) AuthDisable(ctx context.Context, _ *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	h, err := s.update(ctx, (*auth.State).Disable, "change", "disabled")
	if err != nil {
		return nil, err
	}
	return &pb.AuthDisableResponse{Header: h}, nil
}

// UserAdd adds a user. It hashes passwords for administrators only.
func (s *authServer) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	var hash []byte
	if !r.GetOptions().GetNoPassword() {
		var err error
		if hash, err = s.hash(ctx, r.GetPassword()); err != nil {
			return nil, err
		}
		r.Password = ""
	}
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) {
		return state.UserAdd(r.GetName(), hash, r.GetOptions())
	}, "change", "user added", "user", r.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserAddResponse{Header: h}, nil
}

// hash hashes a password for an administrator.
func (s *authServer) hash(ctx context.Context, password string) ([]byte, error) {
	if err := s.g.check(ctx, needAdmin); err != nil {
		return nil, Err(err)
	}
	hash, err := s.g.o.Passwords.Hash(ctx, password)
	return hash, Err(err)
}

// UserGet returns a user's roles, to administrators and to the user.
func (s *authServer) UserGet(ctx context.Context, r *pb.AuthUserGetRequest) (*pb.AuthUserGetResponse, error) {
	k, h, err := s.look(ctx, func(state *auth.State, id auth.Identity) error {
		if id.User == r.GetName() {
			return nil
		}
		return state.Admin(id)
	})
	if err != nil {
		return nil, err
	}
	roles, err := k.UserRoles(r.GetName())
	if err != nil {
		return nil, Err(err)
	}
	return &pb.AuthUserGetResponse{Header: h, Roles: roles}, nil
}

// UserList returns the names of all users.
func (s *authServer) UserList(ctx context.Context, _ *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	k, h, err := s.look(ctx, needAdmin)
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserListResponse{Header: h, Users: k.Users()}, nil
}

// UserDelete deletes a user and ends the user's tokens.
func (s *authServer) UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) { return state.UserDelete(r.GetName()) },
		"change", "user deleted", "user", r.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserDeleteResponse{Header: h}, nil
}

// UserChangePassword gives a user another password and ends the user's tokens. A hashed password is stored as it is.
func (s *authServer) UserChangePassword(
	ctx context.Context, r *pb.AuthUserChangePasswordRequest,
) (*pb.AuthUserChangePasswordResponse, error) {
	hash := func() ([]byte, error) { return s.g.o.Passwords.Hashed(r.GetHashedPassword()) }
	if r.GetPassword() != "" {
		hashed, err := s.hash(ctx, r.GetPassword())
		if err != nil {
			return nil, err
		}
		r.Password = ""
		hash = func() ([]byte, error) { return hashed, nil } //nolint:unparam // as the other one
	}
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) {
		return state.UserChangePassword(r.GetName(), hash)
	}, "change", "password changed", "user", r.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserChangePasswordResponse{Header: h}, nil
}

// UserGrantRole gives a user a role.
func (s *authServer) UserGrantRole(
	ctx context.Context, r *pb.AuthUserGrantRoleRequest,
) (*pb.AuthUserGrantRoleResponse, error) {
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) {
		return state.UserGrantRole(r.GetUser(), r.GetRole())
	}, "change", "role granted", "user", r.GetUser(), "role", r.GetRole())
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserGrantRoleResponse{Header: h}, nil
}

// UserRevokeRole takes a role from a user.
func (s *authServer) UserRevokeRole(
	ctx context.Context, r *pb.AuthUserRevokeRoleRequest,
) (*pb.AuthUserRevokeRoleResponse, error) {
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) {
		return state.UserRevokeRole(r.GetName(), r.GetRole())
	}, "change", "role revoked", "user", r.GetName(), "role", r.GetRole())
	if err != nil {
		return nil, err
	}
	return &pb.AuthUserRevokeRoleResponse{Header: h}, nil
}

// RoleAdd adds a role.
func (s *authServer) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) { return state.RoleAdd(r.GetName()) },
		"change", "role added", "role", r.GetName())
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleAddResponse{Header: h}, nil
}

// RoleGet returns a role's permissions, to administrators and to users with the role.
func (s *authServer) RoleGet(ctx context.Context, r *pb.AuthRoleGetRequest) (*pb.AuthRoleGetResponse, error) {
	k, h, err := s.look(ctx, func(state *auth.State, id auth.Identity) error {
		if state.HasRole(id.User, r.GetRole()) {
			return nil
		}
		return state.Admin(id)
	})
	if err != nil {
		return nil, err
	}
	perms, err := k.RolePermissions(r.GetRole())
	if err != nil {
		return nil, Err(err)
	}
	return &pb.AuthRoleGetResponse{Header: h, Perm: perms}, nil
}

// RoleList returns the names of all roles.
func (s *authServer) RoleList(ctx context.Context, _ *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	k, h, err := s.look(ctx, needAdmin)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleListResponse{Header: h, Roles: k.Roles()}, nil
}

// RoleDelete deletes a role and takes it from all users.
func (s *authServer) RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) { return state.RoleDelete(r.GetRole()) },
		"change", "role deleted", "role", r.GetRole())
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleDeleteResponse{Header: h}, nil
}

// RoleGrantPermission gives a role a permission.
func (s *authServer) RoleGrantPermission(
	ctx context.Context, r *pb.AuthRoleGrantPermissionRequest,
) (*pb.AuthRoleGrantPermissionResponse, error) {
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) {
		return state.RoleGrantPermission(r.GetName(), r.GetPerm())
	}, permissionLog("permission granted", r.GetName(), r.GetPerm())...)
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleGrantPermissionResponse{Header: h}, nil
}

func permissionLog(what, role string, p *authpb.Permission) []any {
	return []any{
		"change", what, "role", role, "kind", p.GetPermType().String(), "key", string(p.GetKey()),
		"range_end", string(p.GetRangeEnd()),
	}
}

// RoleRevokePermission takes a permission from a role.
func (s *authServer) RoleRevokePermission(
	ctx context.Context, r *pb.AuthRoleRevokePermissionRequest,
) (*pb.AuthRoleRevokePermissionResponse, error) {
	h, err := s.update(ctx, func(state *auth.State) (auth.Change, error) {
		return state.RoleRevokePermission(r.GetRole(), r.GetKey(), r.GetRangeEnd())
	}, "change", "permission revoked", "role", r.GetRole(), "key", string(r.GetKey()),
		"range_end", string(r.GetRangeEnd()))
	if err != nil {
		return nil, err
	}
	return &pb.AuthRoleRevokePermissionResponse{Header: h}, nil
}
