package migrate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/headwaterdb/headwater/libs/mvcc"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// answers is a client that gives one answer to all reads.
type answers struct {
	clientv3.KV
	err error
}

// Get implements clientv3.KV.
func (a answers) Get(context.Context, string, ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return &clientv3.GetResponse{Header: &pb.ResponseHeader{ClusterId: 1, Revision: 9}}, a.err
}

// keep puts a snapshot of revision 7 where an interrupted copy leaves one.
func keep(t *testing.T, m *Migration, cluster uint64) []byte {
	t.Helper()
	b := fileOf(t, 7, mvcc.KV{Key: []byte("k")})
	if err := os.WriteFile(m.keptFile(cluster), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKept: a snapshot that was kept is used, is an error's cause and stays, or is removed, by what the source says of
// its revision.
func TestKept(t *testing.T) {
	denied := rpctypes.ErrPermissionDenied
	for name, c := range map[string]struct {
		answer, want error
		cut          int // of the file
		used, stays  bool
	}{
		"good":                   {used: true, stays: true},
		"the source is away":     {answer: denied, want: denied, stays: true},
		"the source compacted":   {answer: rpctypes.ErrCompacted},
		"the source is set back": {answer: rpctypes.ErrFutureRev},
		"damaged":                {cut: 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Migration{
				Source:  NewSource(&clientv3.Client{KV: answers{err: c.answer}}),
				Target:  &Target{name: "k"},
				WorkDir: t.TempDir(),
			}
			if f, since, err := m.kept(t.Context(), 1, 9); f != nil || since != 9 || err != nil {
				t.Errorf("without a file: %v, %d, %v", f, since, err)
			}
			b := keep(t, m, 1)
			if err := os.Truncate(m.keptFile(1), int64(len(b)-c.cut)); err != nil {
				t.Fatal(err)
			}
			f, since, err := m.kept(t.Context(), 1, 9)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			switch {
			case c.used:
				got, err := io.ReadAll(f)
				if err = errors.Join(err, f.Close()); err != nil || !bytes.Equal(got, b) || since != 7 {
					t.Errorf("%d bytes since %d, %v", len(got), since, err)
				}
			case f != nil:
				t.Error("it is used")
			case c.want == nil && since != 9:
				t.Errorf("since %d", since)
			}
			if _, err := os.Stat(m.keptFile(1)); errors.Is(err, fs.ErrNotExist) == c.stays {
				t.Errorf("it stays: %t, want %t", !c.stays, c.stays)
			}
		})
	}
}

// following is a keyspace that is a copy of the cluster 1.
type following struct{ adminv1.MigrationClient }

// Followed implements adminv1.MigrationClient.
func (following) Followed(
	context.Context, *adminv1.FollowedRequest, ...grpc.CallOption,
) (*adminv1.FollowedResponse, error) {
	return &adminv1.FollowedResponse{Follows: true, Source: 1, Revision: 9}, nil
}

// TestKeptOfWholeCopy: a copy that was killed when it was whole, and before it removed its snapshot, leaves none for
// long: the next run removes it.
func TestKeptOfWholeCopy(t *testing.T) {
	m := &Migration{
		Source:  NewSource(&clientv3.Client{KV: answers{}}),
		Target:  &Target{c: following{}, name: "k"},
		WorkDir: t.TempDir(),
	}
	keep(t, m, 1)
	if err := m.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.keptFile(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
}
