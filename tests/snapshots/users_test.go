package snapshots

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	clientsnapshot "go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/tests/internal/hw"
)

// secured returns a client's configuration with a user and a password.
func secured(endpoint, user, password string) clientv3.Config {
	return clientv3.Config{
		Endpoints: []string{endpoint}, Username: user, Password: password, DialTimeout: timeout, Logger: zap.NewNop(),
	}
}

// login returns a client with a user and a password.
func login(t *testing.T, endpoint, user, password string) (*clientv3.Client, error) {
	t.Helper()
	c, err := clientv3.New(secured(endpoint, user, password))
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// addUsers makes users and roles, and enables authentication.
func addUsers(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	var all []error
	do := func(_ any, err error) { all = append(all, err) }
	do(c.Put(ctx, "mine", "1"))
	do(c.Put(ctx, "theirs", "1"))
	do(c.UserAdd(ctx, "root", "r"))
	do(c.UserAdd(ctx, "u", "p"))
	do(c.UserAddWithOptions(ctx, "cert", "", &clientv3.UserAddOptions{NoPassword: true}))
	do(c.RoleAdd(ctx, "reader"))
	do(c.RoleAdd(ctx, "empty"))
	do(c.RoleGrantPermission(ctx, "reader", "mine", "minf", clientv3.PermissionType(clientv3.PermRead)))
	do(c.RoleGrantPermission(ctx, "reader", "z", "\x00", clientv3.PermissionType(clientv3.PermReadWrite)))
	do(c.UserGrantRole(ctx, "root", "root"))
	do(c.UserGrantRole(ctx, "u", "reader"))
	do(c.UserGrantRole(ctx, "cert", "reader"))
	do(c.AuthEnable(ctx))
	if err := errors.Join(all...); err != nil {
		t.Fatal(err)
	}
}

// usersOf returns what a server answers about users and roles, and what it lets users do.
func usersOf(t *testing.T, endpoint string) (p picture) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	says := func(what string, want, err error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err := dial(t, endpoint).Get(ctx, "mine")
	says("without a user", rpctypes.ErrUserEmpty, err)
	for _, who := range [][2]string{{"u", "r"}, {"root", "p"}, {"nobody", "p"}, {"cert", "p"}} {
		if _, err := login(t, endpoint, who[0], who[1]); err == nil {
			t.Errorf("%q has password %q", who[0], who[1])
		}
	}
	u, err := login(t, endpoint, "u", "p")
	if err != nil {
		t.Fatal(err)
	}
	_, err = u.Get(ctx, "mine")
	says("a read", nil, err)
	_, err = u.Get(ctx, "theirs")
	says("a read of others'", rpctypes.ErrPermissionDenied, err)
	_, err = u.Put(ctx, "mine", "2")
	says("a write", rpctypes.ErrPermissionDenied, err)
	_, err = u.UserList(ctx)
	says("the list of users", rpctypes.ErrPermissionDenied, err)
	root, err := login(t, endpoint, "root", "r")
	if err != nil {
		t.Fatal(err)
	}
	status, err := root.AuthStatus(ctx)
	says("status", nil, err)
	p.add("enabled %t at %d", status.Enabled, status.AuthRevision)
	users, err := root.UserList(ctx)
	says("users", nil, err)
	slices.Sort(users.Users)
	for _, name := range users.Users {
		r, err := root.UserGet(ctx, name)
		says(name, nil, err)
		p.add("user %s %q", name, r.Roles)
	}
	roles, err := root.RoleList(ctx)
	says("roles", nil, err)
	slices.Sort(roles.Roles)
	for _, name := range roles.Roles {
		r, err := root.RoleGet(ctx, name)
		says(name, nil, err)
		p.add("role %s %v", name, r.Perm)
	}
	return p
}

// saveAs fetches a snapshot as user root, as etcdctl does or by headwaterctl.
func saveAs(t *testing.T, endpoint string, own bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "snapshot.db")
	if !own {
		_, err := clientsnapshot.SaveWithVersion(t.Context(), zap.NewNop(), secured(endpoint, "root", "r"), path)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	for password, ok := range map[string]bool{"": false, "wrong": false, "r": true} {
		cmd := exec.CommandContext(t.Context(), ctl(t), "snapshot", "save", path, "--client-endpoint", endpoint)
		if password != "" {
			cmd.Args = append(cmd.Args, "--user", "root")
			cmd.Env = append(os.Environ(), "HEADWATERCTL_PASSWORD="+password)
		}
		if out, err := cmd.CombinedOutput(); (err == nil) != ok {
			t.Fatalf("with password %q: %s, %v", password, out, err)
		}
	}
	return path
}

// ctl returns the path of headwaterctl.
func ctl(t *testing.T) string {
	return hw.Build(t, "headwaterctl", "github.com/headwaterdb/headwater/services/headwaterctl")
}

// TestUsers: users, roles and passwords move in both directions, and permissions stay the same.
func TestUsers(t *testing.T) {
	starts := []func(*testing.T, string) string{headwaterOf, etcdOf, headwaterOf, etcdOf}
	for i, name := range []string{"headwater to etcd to headwater", "etcd to headwater to etcd"} {
		t.Run(name, func(t *testing.T) {
			hops := starts[i : i+3]
			endpoint := hops[0](t, "")
			addUsers(t, dial(t, endpoint))
			want := usersOf(t, endpoint)
			for n, hop := range hops[1:] {
				endpoint = hop(t, saveAs(t, endpoint, n%2 == i))
				same(t, fmt.Sprintf("after move %d", n+1), want, usersOf(t, endpoint))
			}
			root, err := login(t, endpoint, "root", "r")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := root.UserChangePassword(t.Context(), "u", "q"); err != nil {
				t.Fatal(err)
			}
			if _, err := login(t, endpoint, "u", "p"); !errors.Is(err, rpctypes.ErrAuthFailed) {
				t.Errorf("the old password: %v", err)
			}
			if _, err := login(t, endpoint, "u", "q"); err != nil {
				t.Errorf("the new password: %v", err)
			}
		})
	}
}
