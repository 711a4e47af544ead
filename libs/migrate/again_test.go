package migrate

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// still is a source that does nothing.
type still struct {
	clientv3.Watcher
	clientv3.Maintenance
}

// Watch implements clientv3.Watcher.
func (still) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	c := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(c) })
	return c
}

// SnapshotWithVersion implements clientv3.Maintenance.
func (still) SnapshotWithVersion(context.Context) (*clientv3.SnapshotResponse, error) {
	return &clientv3.SnapshotResponse{Snapshot: io.NopCloser(strings.NewReader("file"))}, nil
}

// copied is a keyspace that can be copied, and not follow.
type copied struct {
	following
	adminv1.KeyspacesClient
	adminv1.Migration_RestoreClient
	deleted []time.Time
}

// Replay implements adminv1.MigrationClient.
func (*copied) Replay(context.Context, ...grpc.CallOption) (adminv1.Migration_ReplayClient, error) {
	return nil, status.Error(codes.OutOfRange, "too large")
}

// Restore implements adminv1.MigrationClient.
func (c *copied) Restore(context.Context, ...grpc.CallOption) (adminv1.Migration_RestoreClient, error) {
	return c, nil
}

// Send implements adminv1.Migration_RestoreClient, as do the next two.
func (*copied) Send(*adminv1.RestoreRequest) error { return nil }

func (*copied) CloseSend() error { return nil }

func (*copied) Recv() (*adminv1.RestoreProgress, error) {
	return &adminv1.RestoreProgress{Done: &adminv1.Restored{Revision: 9}}, nil
}

// Show implements adminv1.KeyspacesClient.
func (*copied) Show(context.Context, *adminv1.ShowRequest, ...grpc.CallOption) (*adminv1.Keyspace, error) {
	return &adminv1.Keyspace{}, nil
}

// errEnough ends TestCopyPauses.
var errEnough = errors.New("enough")

// Delete implements adminv1.KeyspacesClient.
func (c *copied) Delete(
	context.Context, *adminv1.DeleteRequest, ...grpc.CallOption,
) (*adminv1.DeleteResponse, error) {
	if c.deleted = append(c.deleted, time.Now()); len(c.deleted) == 12 {
		return nil, errEnough
	}
	return &adminv1.DeleteResponse{}, nil
}

// TestCopyPauses: a copy that can never follow its source is made again after pauses that grow up to a minute.
func TestCopyPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &copied{}
		m := &Migration{
			Source: NewSource(&clientv3.Client{KV: answers{}, Watcher: still{}, Maintenance: still{}}),
			Target: &Target{c: c, keyspaces: c, name: "k"},
		}
		defer m.Close()
		before := time.Now()
		if err := m.followOn(t.Context(), nil); !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
		var pauses []time.Duration
		for _, at := range c.deleted {
			pauses = append(pauses, at.Sub(before))
			before = at
		}
		if pauses[0] < pause/2 || slices.Max(pauses) > time.Minute || pauses[len(pauses)-1] < time.Minute/2 {
			t.Errorf("%v", pauses)
		}
	})
}
