package gateway

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/tlsconf/tlstest"
)

// TestCertificateUsers: over gRPC and without a token, each method gives etcd's answer to certificates that name an
// administrator, a user, an unknown user, or nobody. A client of the last kind may call methods that need no
// permission.
func TestCertificateUsers(t *testing.T) {
	ca, roots, theirs, ours := certifiedSides(t)
	names := []string{"root", "user", "stranger", ""}
	clients := map[string][2]*clientv3.Client{}
	for _, name := range names {
		pair := ca.Issue("client-"+name, tlstest.Name{CN: name})
		clients[name] = [2]*clientv3.Client{
			certClient(t, theirs, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair.TLS}}),
			certClient(t, ours, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair.TLS}}),
		}
	}
	for _, c := range clients["root"] {
		enableAuth(t, c)
	}
	for _, name := range names {
		for _, call := range certCalls() {
			var got [2]string
			for i, c := range clients[name] {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				err := call.do(ctx, c)
				cancel()
				s, _ := status.FromError(clientv3.ContextError(t.Context(), err))
				got[i] = s.Code().String() + ": " + s.Message()
				if err != nil && s.Message() == "" {
					got[i] = err.Error()
				}
			}
			if got[0] != got[1] {
				t.Errorf("certificate of %q, %s: etcd %q, headwater %q", name, call.name, got[0], got[1])
			}
		}
	}
}

func certClient(t *testing.T, addr string, trust *tls.Config) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{addr}, DialTimeout: time.Minute, TLS: trust, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// enableAuth makes root and a user who may do everything with keys of the prefix "a".
func enableAuth(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx := t.Context()
	whole := clientv3.PermissionType(clientv3.PermReadWrite)
	for _, step := range []func() error{
		func() error { _, err := c.RoleAdd(ctx, "root"); return err },
		func() error { _, err := c.UserAdd(ctx, "root", "r"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.RoleAdd(ctx, "role"); return err },
		func() error { _, err := c.RoleGrantPermission(ctx, "role", "a", "b", whole); return err },
		func() error { _, err := c.UserAdd(ctx, "user", "u"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "user", "role"); return err },
		func() error { _, err := c.Grant(ctx, 1000); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// certCall is a call whose outcome is compared, and not its answer.
type certCall struct {
	name string
	do   func(context.Context, *clientv3.Client) error
}

// certCalls are calls of every method that leaves users, roles and authentication as they are.
func certCalls() []certCall {
	kv := func(c *clientv3.Client) pb.KVClient { return pb.NewKVClient(c.ActiveConnection()) }
	lease := func(c *clientv3.Client) pb.LeaseClient { return pb.NewLeaseClient(c.ActiveConnection()) }
	of := func(name string, do func(context.Context, *clientv3.Client) error) certCall {
		return certCall{name, do}
	}
	return []certCall{
		of("Range", func(ctx context.Context, c *clientv3.Client) error { _, err := c.Get(ctx, "a"); return err }),
		of("Range elsewhere", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Get(ctx, "x")
			return err
		}),
		of("Put", func(ctx context.Context, c *clientv3.Client) error { _, err := c.Put(ctx, "a", "v"); return err }),
		of("DeleteRange", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Delete(ctx, "a")
			return err
		}),
		of("Txn", func(ctx context.Context, c *clientv3.Client) error {
			_, err := kv(c).Txn(ctx, &pb.TxnRequest{})
			return err
		}),
		of("Txn put", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Txn(ctx).Then(clientv3.OpPut("a", "")).Commit()
			return err
		}),
		of("Compact", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Compact(ctx, 1000)
			return err
		}),
		of("Watch", func(ctx context.Context, c *clientv3.Client) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			for r := range c.Watch(ctx, "a", clientv3.WithCreatedNotify()) {
				return r.Err()
			}
			return ctx.Err()
		}),
		of("LeaseGrant", func(ctx context.Context, c *clientv3.Client) error {
			_, err := lease(c).LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 1000})
			return err
		}),
		of("LeaseRevoke", func(ctx context.Context, c *clientv3.Client) error {
			_, err := lease(c).LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 4711})
			return err
		}),
		of("LeaseTimeToLive", func(ctx context.Context, c *clientv3.Client) error {
			_, err := lease(c).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: 4711, Keys: true})
			return err
		}),
		of("LeaseLeases", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Leases(ctx)
			return err
		}),
		of("LeaseKeepAlive", func(ctx context.Context, c *clientv3.Client) error {
			stream, err := lease(c).LeaseKeepAlive(ctx)
			if err == nil {
				err = stream.Send(&pb.LeaseKeepAliveRequest{ID: 4711})
			}
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}),
		of("MemberList", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.MemberList(ctx)
			return err
		}),
		of("MemberRemove", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.MemberRemove(ctx, 1)
			return err
		}),
		of("Alarm", func(ctx context.Context, c *clientv3.Client) error { _, err := c.AlarmList(ctx); return err }),
		of("Status", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Status(ctx, c.Endpoints()[0])
			return err
		}),
		of("HashKV", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.HashKV(ctx, c.Endpoints()[0], 0)
			return err
		}),
		of("Snapshot", func(ctx context.Context, c *clientv3.Client) error {
			stream, err := pb.NewMaintenanceClient(c.ActiveConnection()).Snapshot(ctx, &pb.SnapshotRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}),
		of("AuthStatus", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.AuthStatus(ctx)
			return err
		}),
		of("Authenticate", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Authenticate(ctx, "user", "x")
			return err
		}),
		of("UserList", func(ctx context.Context, c *clientv3.Client) error { _, err := c.UserList(ctx); return err }),
		of("UserGet", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.UserGet(ctx, "user")
			return err
		}),
		of("UserGet nobody", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.UserGet(ctx, "")
			return err
		}),
		of("UserAdd", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.UserAdd(ctx, "user", "x")
			return err
		}),
		of("UserDelete", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.UserDelete(ctx, "none")
			return err
		}),
		of("RoleList", func(ctx context.Context, c *clientv3.Client) error { _, err := c.RoleList(ctx); return err }),
		of("RoleGet", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.RoleGet(ctx, "role")
			return err
		}),
		of("RoleGet none", func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.RoleGet(ctx, "none")
			return err
		}),
	}
}
