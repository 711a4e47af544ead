package snapshot_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/authpb"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

// change changes users and roles.
func change(t *testing.T, s *mvcc.Store, f func(*auth.State) (auth.Change, error)) {
	t.Helper()
	_, err := s.UpdateAuth(t.Context(), func(number uint64, rows []mvcc.AuthRow) (uint64, []mvcc.AuthRow, error) {
		state, err := auth.NewState(number, authRows[auth.Row](rows))
		if err != nil {
			return 0, nil, err
		}
		c, err := f(state)
		return c.Number, authRows[mvcc.AuthRow](c.Rows), err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func authRows[To, From ~struct{ Key, Value []byte }](rows []From) (out []To) {
	for _, r := range rows {
		out = append(out, To(r))
	}
	return out
}

// withUsers is a keyspace with users and roles.
func withUsers(t *testing.T) *mvcc.Store {
	t.Helper()
	s := open(t, dense(t))
	if _, err := s.Put(t.Context(), &mvcc.PutRequest{Key: []byte("k")}); err != nil {
		t.Fatal(err)
	}
	type changes = []func(s *auth.State) (auth.Change, error)
	for _, f := range (changes{
		func(s *auth.State) (auth.Change, error) { return s.UserAdd(auth.Root, []byte("hash of r"), nil) },
		func(s *auth.State) (auth.Change, error) { return s.UserAdd("u", []byte{0, 0xff}, nil) },
		func(s *auth.State) (auth.Change, error) {
			return s.UserAdd("cert", nil, &authpb.UserAddOptions{NoPassword: true})
		},
		func(s *auth.State) (auth.Change, error) { return s.RoleAdd("r") },
		func(s *auth.State) (auth.Change, error) {
			return s.RoleGrantPermission("r", &authpb.Permission{Key: []byte("a"), RangeEnd: []byte{0}})
		},
		func(s *auth.State) (auth.Change, error) { return s.UserGrantRole(auth.Root, auth.Root) },
		func(s *auth.State) (auth.Change, error) { return s.UserGrantRole("u", "r") },
		(*auth.State).Enable,
	}) {
		change(t, s, f)
	}
	return s
}

// saveUsers makes a file with users and roles.
func saveUsers(t *testing.T, s *mvcc.Store, users func(context.Context) (snapshot.Auth, error)) string {
	t.Helper()
	d, err := s.BeginDump(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	path := writeUsers(t, d, users)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUsers: users, roles, hashes, whether authentication is enabled and the auth revision are the same after a
// restore, which sets the feature; nothing of them is there without them.
func TestUsers(t *testing.T) {
	s := withUsers(t)
	path := saveUsers(t, s, snapshot.AuthOf(s))
	want, err := snapshot.AuthOf(s)(t.Context())
	if err != nil || !want.Enabled || want.Revision != 8 || len(want.Users) != 3 || len(want.Roles) != 1 {
		t.Fatalf("%+v, %v", want, err)
	}
	got, e := restore(t, path, snapshot.RestoreOptions{})
	clean(t, e)
	have, err := snapshot.AuthOf(got)(t.Context())
	if diff := cmp.Diff(want, have, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("restored: %s, %v", diff, err)
	}
	if !got.Features().Has(mvcc.FeatureAuth) {
		t.Errorf("the features are %v", got.Features())
	}
	change(t, got, func(s *auth.State) (auth.Change, error) { return s.RoleAdd("another") })
	again, err := snapshot.AuthOf(got)(t.Context())
	if err != nil || again.Revision != want.Revision+1 || len(again.Roles) != 2 {
		t.Errorf("after a change %+v, %v", again, err)
	}
	got, _ = restore(t, path, snapshot.RestoreOptions{WithoutAuth: true})
	have, err = snapshot.AuthOf(got)(t.Context())
	if err != nil || have.Enabled || have.Revision != 1 || len(have.Users)+len(have.Roles) != 0 ||
		got.Features().Has(mvcc.FeatureAuth) {
		t.Errorf("without users: %+v, features %v, %v", have, got.Features(), err)
	}
}

// TestNoUsers: a file of a keyspace in which nobody has changed users makes one that releases without them can open.
func TestNoUsers(t *testing.T) {
	s := open(t, dense(t))
	got, _ := restore(t, saveUsers(t, s, snapshot.AuthOf(s)), snapshot.RestoreOptions{})
	if got.Features() != s.Features() {
		t.Errorf("the features are %v, those of the origin %v", got.Features(), s.Features())
	}
}

// TestManyUsers: users that do not fit one transaction are restored.
func TestManyUsers(t *testing.T) {
	s := open(t, dense(t))
	var users []*authpb.User
	for i := range 5000 {
		users = append(users, &authpb.User{
			Name: []byte{byte(i >> 8), byte(i)}, Password: bytes.Repeat([]byte{'x'}, 60), Roles: []string{"r"},
		})
	}
	path := saveUsers(t, s, func(context.Context) (snapshot.Auth, error) {
		return snapshot.Auth{Revision: 5001, Users: users}, nil
	})
	got, e := restore(t, path, snapshot.RestoreOptions{})
	clean(t, e)
	have, err := snapshot.AuthOf(got)(t.Context())
	if err != nil || have.Revision != 5001 || cmp.Diff(users, have.Users, protocmp.Transform()) != "" {
		t.Errorf("%d users at %d, %v", len(have.Users), have.Revision, err)
	}
}
