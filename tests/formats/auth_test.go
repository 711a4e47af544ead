package formats

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/testengine"
	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// usersFile is the dump of a keyspace with users and roles, and with authentication enabled.
func usersFile() string { return filepath.Join("testdata", "users.rows.gz") }

// userPods starts a pod of each kind on an engine.
func userPods(t *testing.T, e engine.Store) *pods.Deployment {
	t.Helper()
	b := bus.NewLocal()
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	d := pods.New(t, compose.Parts{Engine: e, Bus: b}, 1)
	d.Configure = func(_ config.Kind, _ int, c *config.Config) { c.BcryptCost = 4 }
	if err := d.StartAll(limited(t)); err != nil {
		t.Fatal(err)
	}
	return d
}

// userClient is a client with a password.
func userClient(t *testing.T, addr, user, password string) (*clientv3.Client, error) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{addr}, Username: user, Password: password, Logger: zap.NewNop(),
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// TestWriteUsersFixture writes the fixture with -write-fixtures, and is skipped otherwise.
func TestWriteUsersFixture(t *testing.T) {
	if !*writeFlag {
		t.Skip("SKIPPED: it writes the fixtures, and runs only with -write-fixtures")
	}
	e := testengine.Open(t, 1)
	d := userPods(t, e)
	ctx, c := limited(t), client(t, d.Addr(config.KV, 0))
	var all []error
	do := func(_ any, err error) { all = append(all, err) }
	do(c.Put(ctx, "mine", "1"))
	do(c.Put(ctx, "theirs", "1"))
	do(c.UserAdd(ctx, "root", "r"))
	do(c.UserAdd(ctx, "u", "p"))
	do(c.UserAddWithOptions(ctx, "cert", "", &clientv3.UserAddOptions{NoPassword: true}))
	do(c.RoleAdd(ctx, "r"))
	do(c.RoleAdd(ctx, "empty"))
	do(c.RoleGrantPermission(ctx, "r", "mine", "minf", clientv3.PermissionType(clientv3.PermReadWrite)))
	do(c.UserGrantRole(ctx, "root", "root"))
	do(c.UserGrantRole(ctx, "u", "r"))
	do(c.AuthEnable(ctx))
	root, err := userClient(t, d.Addr(config.KV, 0), "root", "r") // makes a secret
	all = append(all, err)
	if err := errors.Join(all...); err != nil {
		t.Fatal(err)
	}
	root.Close()
	if err := errors.Join(d.Close(), dump(ctx, e, usersFile())); err != nil {
		t.Fatal(err)
	}
}

// TestUsers: pods go on with users and roles that earlier pods have made.
func TestUsers(t *testing.T) {
	testengine.NeedsPebble(t, "the rows hold versions of another cluster")
	t.Parallel()
	e := testengine.Open(t, 1)
	if err := restore(t.Context(), e, usersFile()); err != nil {
		t.Fatal(err)
	}
	d := userPods(t, e)
	ctx, addr := limited(t), d.Addr(config.KV, 0)
	if _, err := client(t, addr).Get(ctx, "mine"); !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("without a user: %v", err)
	}
	if _, err := userClient(t, addr, "u", "wrong"); !errors.Is(err, rpctypes.ErrAuthFailed) {
		t.Errorf("a wrong password: %v", err)
	}
	u, err := userClient(t, addr, "u", "p")
	if err != nil {
		t.Fatal(err)
	}
	if r, err := u.Get(ctx, "mine"); err != nil || r.Count != 1 {
		t.Error(r, err)
	}
	if _, err := u.Get(ctx, "theirs"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Error(err)
	}
	root, err := userClient(t, addr, "root", "r")
	if err != nil {
		t.Fatal(err)
	}
	users, err := root.UserList(ctx)
	if err != nil || !slices.Equal(users.Users, []string{"cert", "root", "u"}) {
		t.Error(users, err)
	}
	roles, err := root.RoleList(ctx)
	if err != nil || !slices.Equal(roles.Roles, []string{"empty", "r"}) {
		t.Error(roles, err)
	}
	if s, err := root.AuthStatus(ctx); err != nil || !s.Enabled || s.AuthRevision != 9 {
		t.Error(s, err)
	}
}

// TestUsersRefused: the previous release refuses the keyspace, because it would not authenticate anybody.
func TestUsersRefused(t *testing.T) {
	testengine.NeedsPebble(t, "the rows hold versions of another cluster")
	t.Parallel()
	program := oldPods(t)
	e := testengine.Open(t, 1)
	if err := restore(t.Context(), e, usersFile()); err != nil {
		t.Fatal(err)
	}
	d := deploy(t, e, []string{"a"})
	said := refusal(t, program, d.args("a")(hw.Layout{ClientURL: "http://127.0.0.1:0"})...)
	if !strings.Contains(said, "format 2") || !strings.Contains(said, "knows 1") {
		t.Errorf("a pod of the previous release that starts reports %q", said)
	}
}
