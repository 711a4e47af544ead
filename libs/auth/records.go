package auth

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
)

// revisionMax bounds auth revisions that come from outside. A Number must have room for twice as much, and grows.
const revisionMax = 1 << 62

// Records returns the users, with the hashes of their passwords, and the roles, as etcd keeps them, in the order of
// their names. They must not be changed.
func (s *State) Records() (users []*authpb.User, roles []*authpb.Role) {
	for _, name := range s.Users() {
		users = append(users, s.users[name].User)
	}
	for _, name := range s.Roles() {
		roles = append(roles, s.roles[name])
	}
	return users, roles
}

// Recreate returns the change that creates users and roles from records in a keyspace that has none. Revision 0 counts
// as 1. Tokens from elsewhere are not valid. Errors: ErrRow (a name is empty or occurs twice, or the revision is out of
// bounds).
func Recreate(enabled bool, revision uint64, users []*authpb.User, roles []*authpb.Role) (Change, error) {
	if revision = max(revision, 1); revision >= revisionMax {
		return Change{}, fmt.Errorf("%w: auth revision %d", ErrRow, revision)
	}
	c := Change{Number: revision << 1}
	if enabled {
		c.Number |= 1
	}
	s, err := &State{}, error(nil)
	for _, u := range users {
		if c, err = s.with(c, u, revision); err != nil {
			return Change{}, err
		}
	}
	for _, r := range roles {
		value, err := marshal.Marshal(r)
		if err != nil {
			return Change{}, err
		}
		c.Rows = append(c.Rows, Row{append([]byte{rowRole}, r.Name...), value})
	}
	seen := map[string]struct{}{}
	for _, r := range c.Rows {
		if _, twice := seen[string(r.Key)]; twice || len(r.Key) == 1 {
			return Change{}, fmt.Errorf("%w: %q", ErrRow, r.Key)
		}
		seen[string(r.Key)] = struct{}{}
	}
	return c, nil
}
