package admin

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// visited is a host of one keyspace.
type visited struct {
	Host
	store *mvcc.Store
}

func (v visited) Visit(context.Context, string) (*mvcc.Store, func(), error) {
	return v.store, func() {}, nil
}

// newFollowing returns the store of a keyspace that follows a source.
func newFollowing(t *testing.T, source uint64) *mvcc.Store {
	t.Helper()
	eng, err := pebble.Open("data", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = eng.Close() })
	im, err := mvcc.NewImport(t.Context(), eng, mvcc.ImportOptions{
		Compact: -1, Follow: &mvcc.Follow{Source: source},
	})
	if err == nil {
		err = im.Finish(t.Context(), 1, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := mvcc.Open(t.Context(), eng, mvcc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestReplayReceives: a client whose request cannot be received gets an error.
func TestReplayReceives(t *testing.T) {
	const source, most = 7, 1 << 10
	store := newFollowing(t, source)
	l := bufconn.Listen(64 << 10)
	g := grpc.NewServer(grpc.MaxRecvMsgSize(most), grpc.WaitForHandlers(true))
	New(Options{Host: visited{store: store}}).Register(g)
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	conn, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := adminv1.NewMigrationClient(conn).Replay(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*adminv1.ReplayRequest{{Source: source}, {Keyspace: strings.Repeat("x", 2*most)}} {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
	}
	for err == nil { // the first is answered, or is not any more
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request that is too large: %v", err)
	}
}
