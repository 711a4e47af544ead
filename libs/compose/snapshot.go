package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

const (
	// snapshotsMax bounds the snapshots of a keyspace that wait, are being made, or are being sent. A client may read
	// one as slowly as it likes.
	snapshotsMax = 2
	// snapshotsMaking is how many snapshots a process makes at the same time. Its keyspaces take turns. A turn waits
	// for no client.
	snapshotsMaking = 2
)

// snapshot is etcdapi.MakeSnapshot.
func (k *Keyspace) snapshot(ctx context.Context, rev, since int64) (etcdapi.SnapshotFile, string, error) {
	if k.snapshots.Add(1) > snapshotsMax {
		k.snapshots.Add(-1)
		return nil, "", rpctypes.ErrGRPCRequestTooManyRequests
	}
	begin := time.Now()
	f, err := k.makeSnapshot(ctx, rev, since)
	if err != nil {
		k.snapshots.Add(-1)
		return nil, "", err
	}
	k.d.Log.Info("a snapshot has been made and is being sent",
		"revision", f.Revision, "since", since, "bytes", f.Size(), "took", time.Since(begin))
	return &snapshotFile{f, k.background, &k.snapshots}, snapshot.StorageVersion, nil
}

// makeSnapshot makes the file when it is the keyspace's turn.
func (k *Keyspace) makeSnapshot(ctx context.Context, rev, since int64) (*snapshot.File, error) {
	if _, err := k.making.Enter(ctx, 1, 1); err != nil {
		return nil, err
	}
	defer k.making.Leave()
	return k.writeSnapshot(ctx, rev, since)
}

// writeSnapshot makes the file. It holds the history only for that time.
func (k *Keyspace) writeSnapshot(ctx context.Context, rev, since int64) (_ *snapshot.File, err error) {
	dir, err := k.d.snapshotDir()
	if err != nil {
		return nil, err
	}
	d, err := k.Store.BeginDump(ctx, rev)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := d.Close(); closeErr != nil {
			k.d.Log.Warn("the history that a snapshot needed stays until its hold expires", "error", closeErr)
		}
	}()
	_, expect := k.Store.Sizes()
	if since > 0 {
		expect = 0 // the writer finds out when there is no room
	}
	f, err := snapshot.Write(ctx, d, snapshot.Options{
		Dir: dir, Reserve: k.d.Config.DiskReserveBytes, Expect: expect, Since: since, Alarms: k.Alarms.Alarms(),
		Auth: snapshot.AuthOf(k.Store),
		Member: snapshot.Member{
			ID: k.Header.MemberID, Name: k.Member, ClientURLs: k.d.AdvertisedURLs(), Term: k.Header.RaftTerm,
		},
	})
	if errors.Is(err, snapshot.ErrNoSpace) {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	return f, err
}

// snapshotDir returns the directory in which snapshots are made.
func (d *Deployment) snapshotDir() (string, error) {
	dir := d.Config.SnapshotDir
	switch {
	case dir == "" && d.Kind.IsPod():
		return os.TempDir(), nil
	case dir == "":
		return d.Config.Dir(), nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("snapshot directory cannot be created: %w", err)
	}
	return dir, nil
}

// snapshotFile makes room for another snapshot when it is closed. It is read for as long as its keyspace is open, so
// that a client that may no longer enter does not get the rest.
type snapshotFile struct {
	*snapshot.File
	served context.Context
	open   *atomic.Int32
}

// Reader implements etcdapi.SnapshotFile.
func (f *snapshotFile) Reader() io.Reader { return servedReader{f.File.Reader(), f.served} }

// servedReader reads until a keyspace is closed.
type servedReader struct {
	io.Reader
	served context.Context
}

// Read implements io.Reader.
func (r servedReader) Read(b []byte) (int, error) {
	if r.served.Err() != nil {
		return 0, errClosing
	}
	return r.Reader.Read(b)
}

// Close implements etcdapi.SnapshotFile.
func (f *snapshotFile) Close() error {
	defer f.open.Add(-1)
	return f.File.Close()
}
