package auth

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"
)

// Root is the name of the user and of the role that etcd knows beforehand.
const Root = "root"

// InitialNumber is the number of the State of a keyspace in which nobody has ever changed users or roles: auth
// revision 1, not enabled.
const InitialNumber = 1 << 1

// Row is a stored row: its key within the table of users and roles, and its value; nil: it is removed.
type Row struct{ Key, Value []byte }

// Kinds of rows: the first byte of the key, before a name or, for secrets, a number (8).
const (
	rowRole   = 'r' // authpb.Role
	rowSecret = 's' // see secret
	rowUser   = 'u' // epoch (8), authpb.User
)

// user is a user as it is stored. It must not be changed.
type user struct {
	*authpb.User
	// epoch is the auth revision that made the present password, or the user. Tokens name it.
	epoch uint64

	once        sync.Once
	read, write union
}

func (u *user) noPassword() bool { return u.GetOptions().GetNoPassword() }

// isRoot says that the user has role root. (etcd searches for it as in a sorted list, which UserGrantRole keeps.)
func (u *user) isRoot() bool {
	i := sort.SearchStrings(u.Roles, Root)
	return i < len(u.Roles) && u.Roles[i] == Root
}

// State is all users and roles of a keyspace at one number. It never changes.
type State struct {
	// Number is the auth revision, doubled, and 1 more while authentication is enabled.
	Number  uint64
	users   map[string]*user
	roles   map[string]*authpb.Role
	secrets []secret // the newest last
}

// NewState reads a State from its rows. Errors: ErrRow.
func NewState(number uint64, rows []Row) (*State, error) {
	s := &State{Number: max(number, InitialNumber), users: map[string]*user{}, roles: map[string]*authpb.Role{}}
	for _, r := range rows {
		if err := s.add(r); err != nil {
			return nil, fmt.Errorf("%w: %q: %w", ErrRow, r.Key, err)
		}
	}
	slices.SortFunc(s.secrets, func(a, b secret) int { return cmp.Compare(a.number, b.number) })
	return s, nil
}

func (s *State) add(r Row) (err error) {
	if len(r.Key) == 0 {
		return ErrRow
	}
	name := string(r.Key[1:])
	switch r.Key[0] {
	case rowUser:
		if len(r.Value) < 8 {
			return ErrRow
		}
		u := &user{User: &authpb.User{}, epoch: binary.BigEndian.Uint64(r.Value)}
		err = proto.Unmarshal(r.Value[8:], u.User)
		s.users[name] = u
	case rowRole:
		role := &authpb.Role{}
		err = proto.Unmarshal(r.Value, role)
		s.roles[name] = role
	case rowSecret:
		var c secret
		c, err = parseSecret(r)
		s.secrets = append(s.secrets, c)
	default:
		err = ErrRow
	}
	return err
}

// Enabled says that requests must be authenticated.
func (s *State) Enabled() bool { return s.Number&1 != 0 }

// Revision is the auth revision, at least 1.
func (s *State) Revision() uint64 { return s.Number >> 1 }

// Users and Roles are the names of all, in order.
func (s *State) Users() []string { return sortedKeys(s.users) }

// Roles are the names of all roles, in order.
func (s *State) Roles() []string { return sortedKeys(s.roles) }

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// UserRoles are the roles of a user. Errors: ErrUserNotFound.
func (s *State) UserRoles(name string) ([]string, error) {
	u := s.users[name]
	if u == nil {
		return nil, ErrUserNotFound
	}
	return u.Roles, nil
}

// RolePermissions are the permissions of a role; those of root are everything. Errors: ErrRoleNotFound.
func (s *State) RolePermissions(name string) ([]*authpb.Permission, error) {
	r := s.roles[name]
	switch {
	case r == nil:
		return nil, ErrRoleNotFound
	case name == Root:
		return []*authpb.Permission{{PermType: authpb.Permission_READWRITE, RangeEnd: []byte{0}}}, nil
	}
	return r.KeyPermission, nil
}

// HasUser says that there is a user of a name.
func (s *State) HasUser(name string) bool { return s.users[name] != nil }

// HasRole says that a user has a role.
func (s *State) HasRole(name, role string) bool {
	u := s.users[name]
	return u != nil && slices.Contains(u.Roles, role)
}

// Identity is who a request acts for. The zero value is nobody.
type Identity struct {
	User string
	// Epoch is the user's when a token was made; 0: whoever has the name.
	Epoch uint64
	// Revision is the auth revision that a jwt names; 0: the present one.
	Revision uint64
	// Peer says that it is another process of the deployment (SignPeer), which is no user and may do nothing by itself.
	Peer bool
}

// user returns the user of an identity. Errors: ErrUserEmpty, ErrInvalidAuthToken (the user has another password by
// now, or another user has the name), ErrPermissionDenied (there is none of the name).
func (s *State) user(id Identity) (*user, error) {
	u := s.users[id.User]
	switch {
	case id.User == "":
		return nil, ErrUserEmpty
	case id.Epoch != 0 && (u == nil || u.epoch != id.Epoch):
		return nil, ErrInvalidAuthToken
	case u == nil:
		return nil, ErrPermissionDenied
	}
	return u, nil
}

// Known says that an identity is one at all, as requests for which that is enough need it. It is nil while
// authentication is disabled. Errors: ErrUserEmpty, ErrInvalidAuthToken. (That there is such a user is not asked, as in
// etcd: a certificate or a jwt may name anybody.)
func (s *State) Known(id Identity) error {
	if !s.Enabled() {
		return nil
	}
	if _, err := s.user(id); err != nil && err != ErrPermissionDenied { //nolint:errorlint // of user
		return err
	}
	return nil
}

// ActsFor returns the user that an identity is now, while authentication is enabled. There is such a user, and what
// has told of it (a token, a certificate) is good under this State. ok is false otherwise.
func (s *State) ActsFor(id Identity) (name string, ok bool) {
	if !s.Enabled() || id.Revision != 0 && id.Revision != s.Revision() {
		return "", false
	}
	if _, err := s.user(id); err != nil {
		return "", false
	}
	return id.User, true
}

// Admin says that an identity may administer. Errors: ErrUserEmpty, ErrInvalidAuthToken, ErrUserNotFound,
// ErrPermissionDenied.
func (s *State) Admin(id Identity) error {
	if !s.Enabled() {
		return nil
	}
	u, err := s.user(id)
	switch {
	case err == ErrPermissionDenied: //nolint:errorlint // of user
		return ErrUserNotFound
	case err != nil:
		return err
	case !u.isRoot():
		return ErrPermissionDenied
	}
	return nil
}

// Everything says that an identity may do everything: nobody needs to look at single keys.
func (s *State) Everything(id Identity) bool { return s.Admin(id) == nil }

// MayRead says that an identity may read a range, with an end as in requests. Errors: ErrUserEmpty,
// ErrInvalidAuthToken, ErrAuthOldRevision, ErrPermissionDenied.
func (s *State) MayRead(id Identity, key, end []byte) error { return s.may(id, key, end, false, false) }

// Current says that an identity does not stand for a jwt of another revision. Errors: ErrAuthOldRevision.
func (s *State) Current(id Identity) error {
	if s.Enabled() && id.Revision != 0 && id.Revision != s.Revision() {
		return ErrAuthOldRevision
	}
	return nil
}

// MayWrite says that an identity may write a range. Errors: as MayRead.
func (s *State) MayWrite(id Identity, key, end []byte) error { return s.may(id, key, end, true, false) }

// MayGoOn is MayRead for what has been allowed before, under whatever revision a jwt had then.
func (s *State) MayGoOn(id Identity, key, end []byte) error { return s.may(id, key, end, false, true) }

func (s *State) may(id Identity, key, end []byte, write, anyRevision bool) error {
	if !s.Enabled() {
		return nil
	}
	if id.User == "" && id.Revision == 0 {
		return ErrUserEmpty
	}
	if !anyRevision && id.Revision != 0 && id.Revision < s.Revision() {
		return ErrAuthOldRevision
	}
	u, err := s.user(id)
	switch {
	case err == ErrUserEmpty: //nolint:errorlint // of user; a jwt for nobody
		return ErrPermissionDenied
	case err != nil:
		return err
	case u.isRoot():
		return nil
	}
	u.once.Do(func() { u.read, u.write = s.merge(u.Roles) })
	granted := u.read
	if write {
		granted = u.write
	}
	if !granted.covers(key, end) {
		return ErrPermissionDenied
	}
	return nil
}

// merge is what roles allow together.
func (s *State) merge(roles []string) (read, write union) {
	var r, w []interval
	for _, name := range roles {
		for _, p := range s.roles[name].GetKeyPermission() {
			i, ok := intervalOf(p.Key, p.RangeEnd)
			if !ok {
				continue
			}
			switch p.PermType {
			case authpb.Permission_READ:
				r = append(r, i)
			case authpb.Permission_WRITE:
				w = append(w, i)
			case authpb.Permission_READWRITE:
				r, w = append(r, i), append(w, i)
			}
		}
	}
	return unionOf(r), unionOf(w)
}

// String says how many users and roles there are, for logs.
func (s *State) String() string {
	var b strings.Builder
	fmt.Fprintf(
		&b,
		"auth revision %d, enabled %t, %d users, %d roles",
		s.Revision(),
		s.Enabled(),
		len(s.users),
		len(s.roles),
	)
	return b.String()
}
