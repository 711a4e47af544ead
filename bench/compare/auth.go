package compare

import (
	"context"
	"crypto/tls"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/bench/load"
)

// Who sends the load of a row with users. It has a role and is not root, so that the server judges each request by
// the role's permissions.
const (
	loadUser     = "bench"
	loadPassword = "bench"
	loadRole     = "bench"
	// loadPrefix is that of hwbench's keys.
	loadPrefix = "/hwbench/"
)

// withUsers makes the user of the load and root, and enables authentication.
func (s *server) withUsers(ctx context.Context) error {
	cfg := clientv3.Config{Endpoints: []string{s.endpoint}, DialTimeout: readyTimeout, Logger: zap.NewNop()}
	if s.tls {
		cfg.TLS = &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} // of a server that this host runs
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	end, whole := clientv3.GetPrefixRangeEnd(loadPrefix), clientv3.PermissionType(clientv3.PermReadWrite)
	for _, step := range []func() error{
		func() error { _, err := c.RoleAdd(ctx, loadRole); return err },
		func() error { _, err := c.RoleGrantPermission(ctx, loadRole, loadPrefix, end, whole); return err },
		// The load asks for the revision by reading a key that nobody writes.
		func() error { _, err := c.RoleGrantPermission(ctx, loadRole, load.RevisionKey, "", whole); return err },
		func() error { _, err := c.UserAdd(ctx, loadUser, loadPassword); return err },
		func() error { _, err := c.UserGrantRole(ctx, loadUser, loadRole); return err },
		func() error { _, err := c.RoleAdd(ctx, "root"); return err },
		func() error { _, err := c.UserAdd(ctx, "root", loadPassword); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("users of the load: %w", err)
		}
	}
	s.users = true
	return nil
}
