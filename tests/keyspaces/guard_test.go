package keyspaces

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/headwaterdb/headwater/libs/auth"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/tests/internal/pods"
)

// asked are requests for methods that refuse an empty request before they check permissions.
var asked = map[string]proto.Message{
	"/etcdserverpb.KV/Range":                &pb.RangeRequest{Key: []byte("k")},
	"/etcdserverpb.KV/RangeStream":          &pb.RangeRequest{Key: []byte("k")},
	"/etcdserverpb.KV/Put":                  &pb.PutRequest{Key: []byte("k")},
	"/etcdserverpb.KV/DeleteRange":          &pb.DeleteRangeRequest{Key: []byte("k")},
	"/etcdserverpb.Auth/UserGet":            &pb.AuthUserGetRequest{Name: "root"}, // no user may have the name ""
	"/etcdserverpb.Auth/UserChangePassword": &pb.AuthUserChangePasswordRequest{Name: "root", Password: "x"},
	"/etcdserverpb.KV/Txn": &pb.TxnRequest{Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
		RequestRange: &pb.RangeRequest{Key: []byte("k")},
	}}}},
	"/etcdserverpb.Watch/Watch": &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte("k")},
	}},
}

// ask sends one request to a method, unary or not, and returns the error, or the reason why a watch has been canceled.
// It tries again while pods have not found each other.
func ask(ctx context.Context, t *testing.T, c *grpc.ClientConn, method string) (err error) {
	t.Helper()
	eventually(t, "answered: "+method, func() bool {
		err = askOnce(ctx, t, c, method)
		return status.Code(err) != codes.Unavailable
	})
	return err
}

func askOnce(ctx context.Context, t *testing.T, c *grpc.ClientConn, method string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	req := asked[method]
	if req == nil {
		req = &emptypb.Empty{}
	}
	_ = stream.SendMsg(req) // the answer has the error
	_ = stream.CloseSend()
	answer := &pb.WatchResponse{}
	for {
		switch err := stream.RecvMsg(answer); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !strings.HasSuffix(method, "/Watch"):
			return nil
		case answer.GetCanceled():
			return errors.New(answer.GetCancelReason())
		}
	}
}

// TestPodsGuardEveryMethod calls every method of pods of every kind without a user, in the first keyspace and in one of
// many. Each call is refused, whichever pod answers it.
func TestPodsGuardEveryMethod(t *testing.T) {
	t.Parallel() // it waits for most of its time
	d := deploy(t, 1, func(_ config.Kind, _ int, c *config.Config) { c.BcryptCost = auth.CostMin })
	d.create("a")
	ctx := d.context()
	for _, name := range []string{"", "a"} {
		enableAuth(t, d.client(config.KV, 0, name))
		for _, k := range pods.Kinds {
			conn := d.client(k, 0, name).ActiveConnection()
			for _, method := range d.pod(k, 0).GRPC.Methods() {
				switch {
				case strings.HasPrefix(method, "/grpc.health.v1."), strings.HasSuffix(method, "/AuthStatus"),
					strings.HasSuffix(method, "/Authenticate"):
					continue
				}
				err := ask(ctx, t, conn, method)
				if text := status.Convert(err).Message(); !strings.Contains(text, "etcdserver: user name is empty") {
					t.Errorf("%s of keyspace %q through %s without a user: %v", method, name, k, err)
				}
			}
		}
	}
}

// TestPodsGuardLeases: in one of many keyspaces a user may revoke a lease only with the permission to write its keys.
func TestPodsGuardLeases(t *testing.T) {
	t.Parallel() // it waits for most of its time
	d := deploy(t, 1, func(_ config.Kind, _ int, c *config.Config) { c.BcryptCost = auth.CostMin })
	d.create("a")
	c := d.client(config.LeaseKeeper, 0, "a")
	enableAuth(t, d.client(config.KV, 0, "a"))
	as := func(user string) context.Context {
		r, err := c.Authenticate(d.context(), user, user)
		if err != nil {
			t.Fatal(err)
		}
		return metadata.AppendToOutgoingContext(d.context(), rpctypes.TokenFieldNameGRPC, r.Token)
	}
	root, weak := as("root"), as("weak")
	granted, err := c.Grant(root, 1000)
	if err == nil {
		_, err = c.Put(root, "k", "v", clientv3.WithLease(granted.ID))
	}
	if err != nil {
		t.Fatal(err)
	}
	denied := func(what string, err error) {
		if !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s by a user without permission on its keys: %v", what, err)
		}
	}
	_, err = c.Revoke(weak, granted.ID)
	denied("revoke", err)
	_, err = c.KeepAliveOnce(weak, granted.ID)
	denied("keep alive", err)
	_, err = c.TimeToLive(weak, granted.ID, clientv3.WithAttachedKeys())
	denied("keys", err)
	_, err = c.Leases(weak)
	denied("leases", err)
	if _, err := c.KeepAliveOnce(root, granted.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.Revoke(root, granted.ID); err != nil {
		t.Error(err)
	}
}

// TestPodsGuardWatches: in one of many keyspaces, too, a watch delivers nothing that was written after its client lost
// the permission, whichever pod took that change.
func TestPodsGuardWatches(t *testing.T) {
	t.Parallel() // it waits for most of its time
	d := deploy(t, 1, func(_ config.Kind, _ int, c *config.Config) { c.BcryptCost = auth.CostMin })
	d.create("a")
	kv := d.client(config.KV, 0, "a")
	enableAuth(t, kv)
	as := func(user string) context.Context {
		r, err := kv.Authenticate(d.context(), user, user)
		if err != nil {
			t.Fatal(err)
		}
		return metadata.AppendToOutgoingContext(d.context(), rpctypes.TokenFieldNameGRPC, r.Token)
	}
	root := as("root")
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(kv.RoleAdd(root, "r"))
	must(kv.RoleGrantPermission(root, "r", "k", "l", clientv3.PermissionType(clientv3.PermRead)))
	must(kv.UserGrantRole(root, "weak", "r"))
	hub := d.client(config.WatchHub, 0, "a")
	mine := hub.Watch(as("weak"), "k", clientv3.WithRange("l"), clientv3.WithCreatedNotify())
	theirs := hub.Watch(root, "k", clientv3.WithCreatedNotify())
	for _, w := range []clientv3.WatchChan{mine, theirs} {
		if r := <-w; !r.Created {
			t.Fatal(r)
		}
	}
	must(kv.Put(root, "k", "before"))
	must(kv.UserRevokeRole(root, "weak", "r"))
	must(kv.Put(root, "k", "after"))
	for r := range mine { // clientv3 closes the channel without an error when the watch is canceled
		for _, e := range r.Events {
			if string(e.Kv.Value) != "before" {
				t.Errorf("delivered after the permission had been taken away: %v", e)
			}
		}
	}
	for seen := []string{}; len(seen) < 2; {
		r := <-theirs
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		for _, e := range r.Events {
			seen = append(seen, string(e.Kv.Value))
		}
	}
}

// TestTokensOfKeyspaces: a token of either kind is valid only in its own keyspace, even if another keyspace has the
// same users.
func TestTokensOfKeyspaces(t *testing.T) {
	t.Parallel() // it waits for most of its time
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a secret that is long enough for anybody"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"simple", "jwt,sign-method=HS256,priv-key=" + key} {
		d := deploy(t, 1, func(_ config.Kind, _ int, c *config.Config) {
			c.BcryptCost, c.AuthToken = auth.CostMin, kind
		})
		d.create("a")
		a, first := d.client(config.KV, 0, "a"), d.client(config.KV, 0, "")
		enableAuth(t, a)
		enableAuth(t, first)
		for _, c := range []struct{ own, other *clientv3.Client }{{a, first}, {first, a}} {
			r, err := c.own.Authenticate(t.Context(), "root", "root")
			if err != nil {
				t.Fatal(err)
			}
			ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, r.Token)
			if _, err := c.own.Get(ctx, "k"); err != nil {
				t.Error(kind, err)
			}
			// Do not use clientv3's own method, which retries for seconds.
			err = ask(ctx, t, c.other.ActiveConnection(), "/etcdserverpb.KV/Range")
			if !strings.Contains(status.Convert(err).Message(), "etcdserver: invalid auth token") {
				t.Errorf("%s: in another keyspace: %v", kind, err)
			}
		}
	}
}

// enableAuth makes the users root and weak, who has no role, and enables authentication in the keyspace of c.
func enableAuth(t *testing.T, c *clientv3.Client) {
	t.Helper()
	for _, user := range []string{"root", "weak"} {
		if _, err := c.UserAdd(t.Context(), user, user); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.UserGrantRole(t.Context(), "root", "root")
	if err == nil {
		_, err = c.AuthEnable(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}
