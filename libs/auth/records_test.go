package auth_test

import (
	"errors"
	"math"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"

	"github.com/headwaterdb/headwater/libs/auth"
)

// TestRecreate: records that make no keyspace are refused, and a revision of 0 is the first one.
func TestRecreate(t *testing.T) {
	u, r := &authpb.User{Name: []byte("u")}, &authpb.Role{Name: []byte("u")}
	users, roles := []*authpb.User{u}, []*authpb.Role{r}
	c, err := auth.Recreate(false, 0, users, roles)
	if err != nil || c.Number != auth.InitialNumber || len(c.Rows) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if s, err := auth.NewState(c.Number, c.Rows); err != nil || len(s.Users()) != 1 || len(s.Roles()) != 1 {
		t.Errorf("%v, %v", s, err)
	}
	for name, change := range map[string]func() (auth.Change, error){
		"two users":      func() (auth.Change, error) { return auth.Recreate(true, 1, []*authpb.User{u, u}, nil) },
		"two roles":      func() (auth.Change, error) { return auth.Recreate(true, 1, nil, []*authpb.Role{r, r}) },
		"no name":        func() (auth.Change, error) { return auth.Recreate(true, 1, []*authpb.User{{}}, nil) },
		"a role of none": func() (auth.Change, error) { return auth.Recreate(true, 1, nil, []*authpb.Role{{}}) },
		"a revision":     func() (auth.Change, error) { return auth.Recreate(true, math.MaxUint64, nil, nil) },
	} {
		if c, err := change(); !errors.Is(err, auth.ErrRow) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}
