package auth

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sort"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"
)

// Change is the rows that a change of users and roles writes, and the next number. If it has no rows and the present
// number, there is nothing to change.
type Change struct {
	Number uint64
	Rows   []Row
}

// next returns a change that makes a revision.
func (s *State) next(rows ...Row) Change { return Change{s.Number + 2, rows} }

// none returns a change that changes nothing.
func (s *State) none() Change { return Change{Number: s.Number} }

// Enable makes requests need authentication from now on. It makes no revision. Errors: ErrRootUserNotExist,
// ErrRootRoleNotExist.
func (s *State) Enable() (Change, error) {
	root := s.users[Root]
	switch {
	case s.Enabled():
		return s.none(), nil
	case root == nil:
		return Change{}, ErrRootUserNotExist
	case !root.isRoot():
		return Change{}, ErrRootRoleNotExist
	}
	return Change{Number: s.Number | 1}, nil
}

// Disable ends authentication, and all tokens.
func (s *State) Disable() (Change, error) {
	if !s.Enabled() {
		return s.none(), nil
	}
	c := Change{Number: s.Number + 1}
	for _, sec := range s.secrets {
		c.Rows = append(c.Rows, Row{Key: secretKey(sec.number)})
	}
	return c, nil
}

// UserAdd adds a user. hash is the bcrypt hash of the password. Errors: ErrUserEmpty, ErrUserAlreadyExist.
func (s *State) UserAdd(name string, hash []byte, options *authpb.UserAddOptions) (Change, error) {
	switch {
	case name == "":
		return Change{}, ErrUserEmpty
	case s.users[name] != nil:
		return Change{}, ErrUserAlreadyExist
	}
	if options == nil {
		options = &authpb.UserAddOptions{}
	}
	if options.NoPassword {
		hash = nil
	}
	c := s.next()
	return s.with(c, &authpb.User{Name: []byte(name), Password: hash, Options: options}, c.Number>>1)
}

// with adds the row of a user to a change.
func (s *State) with(c Change, u *authpb.User, epoch uint64) (Change, error) {
	value, err := marshal.MarshalAppend(binary.BigEndian.AppendUint64(nil, epoch), u)
	c.Rows = append(c.Rows, Row{append([]byte{rowUser}, u.Name...), value})
	return c, err
}

var marshal = proto.MarshalOptions{Deterministic: true}

// UserDelete deletes a user. Errors: ErrInvalidAuthMgmt, ErrUserNotFound.
func (s *State) UserDelete(name string) (Change, error) {
	switch {
	case s.Enabled() && name == Root:
		return Change{}, ErrInvalidAuthMgmt
	case s.users[name] == nil:
		return Change{}, ErrUserNotFound
	}
	return s.next(Row{Key: append([]byte{rowUser}, name...)}), nil
}

// UserChangePassword gives a user a password and a new epoch, which ends the user's tokens. It calls hash only if such
// a user's password can be set. Errors: ErrUserNotFound, those of hash.
func (s *State) UserChangePassword(name string, hash func() ([]byte, error)) (Change, error) {
	u := s.users[name]
	if u == nil {
		return Change{}, ErrUserNotFound
	}
	var password []byte
	if !u.noPassword() {
		var err error
		if password, err = hash(); err != nil {
			return Change{}, err
		}
	}
	c := s.next()
	changed := &authpb.User{Name: u.Name, Password: password, Roles: u.Roles, Options: u.Options}
	return s.with(c, changed, c.Number>>1)
}

// UserGrantRole gives a user a role, unless the user has it. Errors: ErrUserNotFound, ErrRoleNotFound.
func (s *State) UserGrantRole(name, role string) (Change, error) {
	u := s.users[name]
	switch {
	case u == nil:
		return Change{}, ErrUserNotFound
	case role != Root && s.roles[role] == nil:
		return Change{}, ErrRoleNotFound
	}
	if i := sort.SearchStrings(u.Roles, role); i < len(u.Roles) && u.Roles[i] == role {
		return s.none(), nil
	}
	return s.setRoles(s.next(), u, slices.Sorted(slices.Values(append(slices.Clone(u.Roles), role))))
}

// setRoles adds the row of a user with other roles to a change.
func (s *State) setRoles(c Change, u *user, roles []string) (Change, error) {
	changed := &authpb.User{Name: u.Name, Password: u.Password, Roles: roles, Options: u.Options}
	return s.with(c, changed, u.epoch)
}

// UserRevokeRole takes a role from a user. Errors: ErrInvalidAuthMgmt, ErrUserNotFound, ErrRoleNotGranted.
func (s *State) UserRevokeRole(name, role string) (Change, error) {
	u := s.users[name]
	switch {
	case s.Enabled() && name == Root && role == Root:
		return Change{}, ErrInvalidAuthMgmt
	case u == nil:
		return Change{}, ErrUserNotFound
	case !slices.Contains(u.Roles, role):
		return Change{}, ErrRoleNotGranted
	}
	return s.setRoles(s.next(), u, without(u.Roles, role))
}

func without(roles []string, role string) []string {
	return slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == role })
}

// RoleAdd adds a role. Errors: ErrRoleEmpty, ErrRoleAlreadyExist.
func (s *State) RoleAdd(name string) (Change, error) {
	switch {
	case name == "":
		return Change{}, ErrRoleEmpty
	case s.roles[name] != nil:
		return Change{}, ErrRoleAlreadyExist
	}
	return s.withRole(&authpb.Role{Name: []byte(name)})
}

func (s *State) withRole(r *authpb.Role) (Change, error) {
	value, err := marshal.Marshal(r)
	return s.next(Row{append([]byte{rowRole}, r.Name...), value}), err
}

// RoleDelete deletes a role, and takes it from all users. Errors: ErrInvalidAuthMgmt, ErrRoleNotFound.
func (s *State) RoleDelete(name string) (c Change, err error) {
	switch {
	case s.Enabled() && name == Root:
		return Change{}, ErrInvalidAuthMgmt
	case s.roles[name] == nil:
		return Change{}, ErrRoleNotFound
	}
	c = s.next(Row{Key: append([]byte{rowRole}, name...)})
	for _, userName := range s.Users() {
		if u := s.users[userName]; slices.Contains(u.Roles, name) {
			if c, err = s.setRoles(c, u, without(u.Roles, name)); err != nil {
				return Change{}, err
			}
		}
	}
	return c, nil
}

// RoleGrantPermission gives a role a permission. If the role has one for the same range, its kind changes. Errors:
// ErrPermissionNotGiven, ErrInvalidAuthMgmt, ErrRoleNotFound.
func (s *State) RoleGrantPermission(name string, p *authpb.Permission) (Change, error) {
	r := s.roles[name]
	switch {
	case p == nil:
		return Change{}, ErrPermissionNotGiven
	case !validPermission(p.Key, p.RangeEnd):
		return Change{}, ErrInvalidAuthMgmt
	case r == nil:
		return Change{}, ErrRoleNotFound
	}
	changed := &authpb.Role{Name: r.Name, KeyPermission: slices.Clone(r.KeyPermission)}
	perms := changed.KeyPermission
	granted := &authpb.Permission{PermType: p.PermType, Key: p.Key, RangeEnd: p.RangeEnd}
	// As in etcd, only the first permission of the key is looked at.
	i := sort.Search(len(perms), func(i int) bool { return bytes.Compare(perms[i].Key, p.Key) >= 0 })
	if i < len(perms) && samePermission(perms[i], p.Key, p.RangeEnd) {
		perms[i] = granted
	} else {
		perms = append(perms, granted)
		sort.Sort(byKey(perms))
		changed.KeyPermission = perms
	}
	return s.withRole(changed)
}

// byKey sorts permissions in etcd's order, with the same algorithm, so that permissions of the same key come out in the
// same order.
type byKey []*authpb.Permission

func (p byKey) Len() int           { return len(p) }
func (p byKey) Less(i, j int) bool { return bytes.Compare(p[i].Key, p[j].Key) < 0 }
func (p byKey) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }

func samePermission(p *authpb.Permission, key, end []byte) bool {
	return bytes.Equal(p.Key, key) && bytes.Equal(p.RangeEnd, end)
}

// validPermission says whether a permission's range can hold a key.
func validPermission(key, end []byte) bool {
	if len(key) == 0 {
		return false
	}
	_, ok := intervalOf(key, end)
	return ok
}

// RoleRevokePermission takes from a role the permission with exactly this key and end. Errors: ErrRoleNotFound,
// ErrPermissionNotGranted.
func (s *State) RoleRevokePermission(name string, key, end []byte) (Change, error) {
	r := s.roles[name]
	if r == nil {
		return Change{}, ErrRoleNotFound
	}
	kept := slices.DeleteFunc(slices.Clone(r.KeyPermission), func(p *authpb.Permission) bool {
		return samePermission(p, key, end)
	})
	if len(kept) == len(r.KeyPermission) {
		return Change{}, ErrPermissionNotGranted
	}
	return s.withRole(&authpb.Role{Name: r.Name, KeyPermission: kept})
}
