package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Auth is the users and roles of a keyspace, with the hashes of passwords.
type Auth struct {
	Enabled  bool
	Revision uint64
	Users    []*authpb.User
	Roles    []*authpb.Role
}

// AuthOf returns a function for Options.Auth that reads the users and roles of a keyspace. It reads the newest ones,
// even if the file is of a past revision, so that nobody gets back permissions that were taken away since. Errors of
// the function: those of Store.ReadAuth and auth.NewState.
func AuthOf(s *mvcc.Store) func(ctx context.Context) (Auth, error) {
	return func(ctx context.Context) (Auth, error) {
		number, rows, _, err := s.ReadAuth(ctx)
		if err != nil {
			return Auth{}, err
		}
		list := make([]auth.Row, len(rows))
		for i, r := range rows {
			list[i] = auth.Row(r)
		}
		state, err := auth.NewState(number, list)
		if err != nil {
			return Auth{}, err
		}
		a := Auth{Enabled: state.Enabled(), Revision: state.Revision()}
		a.Users, a.Roles = state.Records()
		return a, nil
	}
}

// rows returns the rows for a restored keyspace. Errors: ErrDamaged.
func (a *Auth) rows() (number uint64, rows []mvcc.AuthRow, err error) {
	c, err := auth.Recreate(a.Enabled, a.Revision, a.Users, a.Roles)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, r := range c.Rows {
		rows = append(rows, mvcc.AuthRow(r))
	}
	return c.Number, rows, nil
}

// auth writes users and roles.
func (w *writer) auth(a *Auth) error {
	enabled := []byte{0}
	if a.Enabled {
		enabled[0] = 1
	}
	var errs []error
	w.putSmall(bucketAuth, authEnabled, enabled)
	w.putSmall(bucketAuth, authRevision, binary.BigEndian.AppendUint64(nil, a.Revision))
	for _, u := range a.Users {
		row, err := proto.Marshal(u)
		errs = append(errs, err)
		w.putSmall(bucketUsers, u.GetName(), row)
	}
	for _, r := range a.Roles {
		row, err := proto.Marshal(r)
		errs = append(errs, err)
		w.putSmall(bucketRoles, r.GetName(), row)
	}
	return errors.Join(errs...)
}

// Auth reads users and roles. Errors: as Events.
func (r *Reader) Auth(ctx context.Context) (a Auth, err error) {
	err = r.rows(ctx, bucketAuth, func(k, v []byte) error {
		switch {
		case bytes.Equal(k, authEnabled) && len(v) == 1 && v[0] <= 1:
			a.Enabled = v[0] == 1
		case bytes.Equal(k, authRevision) && len(v) == 8:
			a.Revision = binary.BigEndian.Uint64(v)
		case bytes.Equal(k, authEnabled), bytes.Equal(k, authRevision): // not a keyspace without authentication
			return fmt.Errorf("%w: %s cannot be read", ErrDamaged, k)
		}
		return nil
	})
	if err == nil {
		err = r.rows(ctx, bucketUsers, func(k, v []byte) error {
			u := &authpb.User{}
			a.Users = append(a.Users, u)
			return parse("user", k, v, u, u.GetName)
		})
	}
	if err == nil {
		err = r.rows(ctx, bucketRoles, func(k, v []byte) error {
			role := &authpb.Role{}
			a.Roles = append(a.Roles, role)
			return parse("role", k, v, role, role.GetName)
		})
	}
	return a, err
}

// parse reads a row whose key must equal the name in its value.
func parse(what string, k, v []byte, into proto.Message, name func() []byte) error {
	if err := proto.Unmarshal(v, into); err != nil {
		return fmt.Errorf("%w: %s %q: %w", ErrDamaged, what, k, err)
	}
	if len(k) == 0 || !bytes.Equal(k, name()) {
		return fmt.Errorf("%w: %s %q has another name", ErrDamaged, what, k)
	}
	return nil
}

// Check checks whether a keyspace can have these users and roles. Errors: ErrDamaged.
func (a *Auth) Check() error {
	_, _, err := a.rows()
	return err
}
