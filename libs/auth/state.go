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

// Root is the name of the user and of the role that are special in etcd.
const Root = "root"

// InitialNumber is the Number of a keyspace whose users and roles have never been changed: auth revision 1, not
// enabled.
const InitialNumber = 1 << 1

// Row is a stored row: its key in the table of users and roles, and its value; nil: the row is removed.
type Row struct{ Key, Value []byte }

// Kinds of rows. The kind is the first byte of the key, before a name or, for secrets, a number (8).
const (
	rowRole   = 'r' // authpb.Role
	rowSecret = 's' // see secret
	rowUser   = 'u' // epoch (8), authpb.User
)

// user is a user as it is stored. It must not be changed.
type user struct {
	*authpb.User
	// epoch is the auth revision at which the user got its present password, or was created. Tokens name it.
	epoch uint64

	once        sync.Once
	read, write union
}

func (u *user) noPassword() bool { return u.GetOptions().GetNoPassword() }

// isRoot says whether the user has role root. (etcd searches for it as in a sorted list. UserGrantRole keeps the list
// sorted.)
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

// Enabled says whether requests must be authenticated.
func (s *State) Enabled() bool { return s.Number&1 != 0 }

// Revision returns the auth revision, which is at least 1.
func (s *State) Revision() uint64 { return s.Number >> 1 }

// Users returns the names of all users, in order.
func (s *State) Users() []string { return sortedKeys(s.users) }

// Roles returns the names of all roles, in order.
func (s *State) Roles() []string { return sortedKeys(s.roles) }

func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// UserRoles returns the roles of a user. Errors: ErrUserNotFound.
func (s *State) UserRoles(name string) ([]string, error) {
	u := s.users[name]
	if u == nil {
		return nil, ErrUserNotFound
	}
	return u.Roles, nil
}

// RolePermissions returns the permissions of a role. Root's permission is everything. Errors: ErrRoleNotFound.
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

// Identity is the user in whose name a request is made. The zero value is nobody.
type Identity struct {
	User string
	// Nameless says that a certificate proves who makes the request, but names no user. As in etcd, such a client has
	// no permissions, but is not nobody.
	Nameless bool
	// Epoch is the user's epoch when a token was made; 0: any user of the name.
	Epoch uint64
	// Revision is the auth revision in a jwt; 0: the present one.
	Revision uint64
	// Peer says that it is another process of the deployment (SignPeer). It is no user and has no permissions of its
	// own.
	Peer bool
}

// nobody says that a request was made without a token or certificate. A jwt may name no user, and is not nobody.
func (id *Identity) nobody() bool { return id.User == "" && id.Revision == 0 && !id.Nameless }

// user returns the user of an identity. Errors: ErrUserEmpty, ErrInvalidAuthToken (the user has a new password, or is
// another user of that name), ErrPermissionDenied (there is no user of that name).
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

// Known checks an identity for requests that need no permission. It returns nil while authentication is disabled. It
// does not check that the user exists, as in etcd: a certificate or a jwt may name anybody, or no user. Errors:
// ErrUserEmpty, ErrInvalidAuthToken.
func (s *State) Known(id Identity) error {
	if !s.Enabled() || id.User == "" && !id.nobody() {
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

// Everything says whether an identity may do everything, so that single keys need not be checked.
func (s *State) Everything(id Identity) bool { return s.Admin(id) == nil }

// MayRead checks that an identity may read a range, with an end as in requests. Errors: ErrUserEmpty,
// ErrInvalidAuthToken, ErrAuthOldRevision, ErrPermissionDenied.
func (s *State) MayRead(id Identity, key, end []byte) error { return s.may(id, key, end, false, false) }

// Current checks that an identity is not from a jwt of another revision. Errors: ErrAuthOldRevision.
func (s *State) Current(id Identity) error {
	if s.Enabled() && id.Revision != 0 && id.Revision != s.Revision() {
		return ErrAuthOldRevision
	}
	return nil
}

// MayWrite checks that an identity may write a range. Errors: as MayRead.
func (s *State) MayWrite(id Identity, key, end []byte) error { return s.may(id, key, end, true, false) }

// MayGoOn is MayRead for a range that was allowed before. It accepts a jwt of an older revision.
func (s *State) MayGoOn(id Identity, key, end []byte) error { return s.may(id, key, end, false, true) }

func (s *State) may(id Identity, key, end []byte, write, anyRevision bool) error {
	if !s.Enabled() {
		return nil
	}
	if id.nobody() {
		return ErrUserEmpty
	}
	if !anyRevision && id.Revision != 0 && id.Revision < s.Revision() {
		return ErrAuthOldRevision
	}
	u, err := s.user(id)
	switch {
	case err == ErrUserEmpty: //nolint:errorlint // of user; it is nameless
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

// merge returns what several roles allow together.
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

// String returns the numbers of users and roles, for logs.
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
