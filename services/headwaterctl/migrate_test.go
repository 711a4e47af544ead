package main

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/migrate"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// TestMigrateUsage: flags that would have no effect together are refused before anything is reached.
func TestMigrateUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--check", "--cut-over"}, "--check or --cut-over, not both"},
		{[]string{"--pods"}, "go with --check"},
		{[]string{"--fdb-root", "hw"}, "go with --check"},
		{[]string{"--fdb-root", "hw", "--cut-over"}, "go with --check"},
		{[]string{"--check", "--work-dir", "w"}, "not with --check"},
		{[]string{"--to", "http://127.0.0.1:1", "--work-dir", "w"}, "--from-keyspace only"},
		{[]string{"--to", "http://127.0.0.1:1", "--temp-dir", "w"}, "--from-keyspace only"},
		{[]string{"--to", "http://127.0.0.1:1", "-k", "k"}, "--from-keyspace only"},
	} {
		var out, errOut bytes.Buffer
		args := append([]string{"migrate", "--from", "http://127.0.0.1:1", "--dial-timeout", "10ms"}, c.args...)
		if code := run(args, &out, &errOut); code != exitBadArgs || !strings.Contains(errOut.String(), c.want) {
			t.Errorf("%q: %d, %s: want %q", c.args, code, errOut.String(), c.want)
		}
	}
}

// TestJudge: what only pods cannot hold is an error with --pods alone, and is counted with what is not listed.
func TestJudge(t *testing.T) {
	onPods := migrate.Checked{OnPods: []string{"a long key"}, MoreOnPods: 2}
	nowhere := migrate.Checked{Findings: []string{"a key twice"}, OnPods: []string{"a long key"}}
	for _, c := range []struct {
		found     migrate.Checked
		pods      bool
		err, text string
	}{
		{text: "the keyspace can hold everything\n"},
		{pods: true, text: "the keyspace can hold everything\n"},
		{
			found: onPods,
			text: "pods cannot hold: a long key\n" +
				"a standalone server can hold everything; pods cannot hold 3 things\n",
		},
		{found: onPods, pods: true, err: "hold 3 things", text: "pods cannot hold: a long key\n"},
		{
			found: nowhere, err: "hold 1 things",
			text: "the keyspace cannot hold: a key twice\npods cannot hold: a long key\n",
		},
	} {
		var errOut bytes.Buffer
		err := (&ctl{errOut: &errOut}).judge(&c.found, c.pods)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) ||
			errOut.String() != c.text {
			t.Errorf("%+v, pods %t: %v, %s", c.found, c.pods, err, errOut.String())
		}
	}
}

// emptyEtcd is an etcd without keys at a revision, or one that does not answer, at 0.
type emptyEtcd struct {
	pb.UnimplementedKVServer
	pb.UnimplementedAuthServer
	pb.UnimplementedLeaseServer
	revision atomic.Int64
}

// Range implements pb.KVServer.
func (e *emptyEtcd) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	rev := e.revision.Load()
	if rev == 0 {
		return nil, status.Error(codes.Internal, "out of order")
	}
	return &pb.RangeResponse{Header: &pb.ResponseHeader{ClusterId: 1, Revision: rev}}, nil
}

// AuthStatus implements pb.AuthServer.
func (e *emptyEtcd) AuthStatus(context.Context, *pb.AuthStatusRequest) (*pb.AuthStatusResponse, error) {
	return &pb.AuthStatusResponse{AuthRevision: 1}, nil
}

// LeaseLeases implements pb.LeaseServer.
func (e *emptyEtcd) LeaseLeases(context.Context, *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return &pb.LeaseLeasesResponse{}, nil
}

// emptyCopy is a copy of it at revision 5, whose source is at another one when it has been cut over.
type emptyCopy struct {
	adminv1.UnimplementedMigrationServer
	source *emptyEtcd
	after  int64
}

// Followed implements adminv1.MigrationServer.
func (c *emptyCopy) Followed(context.Context, *adminv1.FollowedRequest) (*adminv1.FollowedResponse, error) {
	return &adminv1.FollowedResponse{Follows: true, Revision: 5, Source: 1, CompactRevision: -1}, nil
}

// Page implements adminv1.MigrationServer.
func (c *emptyCopy) Page(context.Context, *adminv1.PageRequest) (*adminv1.PageResponse, error) {
	return &adminv1.PageResponse{}, nil
}

// CutOver implements adminv1.MigrationServer.
func (c *emptyCopy) CutOver(context.Context, *adminv1.CutOverRequest) (*adminv1.CutOverResponse, error) {
	c.source.revision.Store(c.after)
	return &adminv1.CutOverResponse{}, nil
}

// serveGRPC serves until the test ends.
func serveGRPC(t *testing.T, network, address string, register func(*grpc.Server)) net.Addr {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr()
}

// TestCutOverTooEarly: a write to the source that nobody has stopped, and that comes while the keyspace is cut over, is
// not lost without a word.
func TestCutOverTooEarly(t *testing.T) {
	etcd := &emptyEtcd{}
	from := serveGRPC(t, "tcp", "127.0.0.1:0", func(s *grpc.Server) {
		pb.RegisterKVServer(s, etcd)
		pb.RegisterAuthServer(s, etcd)
		pb.RegisterLeaseServer(s, etcd)
	})
	for _, c := range []struct {
		after int64
		code  int
		text  string
	}{
		{5, exitOK, ""},
		{7, exitError, "has gone on to revision 7 after the cut-over at revision 5"},
		{0, exitOK, "out of order"},
	} {
		etcd.revision.Store(5)
		to := serveGRPC(t, "unix", filepath.Join(t.TempDir(), "admin.sock"), func(s *grpc.Server) {
			adminv1.RegisterMigrationServer(s, &emptyCopy{source: etcd, after: c.after})
		})
		var out, errOut bytes.Buffer
		code := run([]string{
			"migrate", "--cut-over", "--from", "http://" + from.String(), "--endpoints", to.String(), "-k", "k",
		}, &out, &errOut)
		if code != c.code || !strings.Contains(out.String(), "cut over at revision 5 in") ||
			!strings.Contains(errOut.String(), c.text) {
			t.Errorf("the source at %d afterwards: %d, %s%s", c.after, code, out.String(), errOut.String())
		}
	}
}
