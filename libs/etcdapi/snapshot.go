package etcdapi

import (
	"context"
	"crypto/sha256"
	"io"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// SnapshotRevision is the metadata that asks Maintenance.Snapshot for a past revision, in decimal. etcd has nothing
// like it.
const SnapshotRevision = "headwater-revision"

// SnapshotSince is the metadata that asks Maintenance.Snapshot for only the changes since a revision, in decimal. Only
// backups use such a file. A server that does not know it sends a whole snapshot.
const SnapshotSince = "headwater-since"

const (
	// snapshotChunk is how many bytes of the file a message has, as in etcd.
	snapshotChunk = 32 << 10
	// snapshotStall is how long a client may read nothing before its snapshot ends. The file takes disk space, and
	// there may be only a few.
	snapshotStall = 5 * time.Minute
)

var errSnapshotStalled = status.Error(
	codes.Aborted,
	"headwater: the client has read nothing of the snapshot for too long",
)

// SnapshotFile is a database file in etcd's format.
type SnapshotFile interface {
	// Size returns the size of the file in bytes. It is a multiple of 512, so that tools can tell whether a checksum
	// follows.
	Size() int64
	// Reader reads the file from the beginning.
	Reader() io.Reader
	// Close removes the file.
	Close() error
}

// MakeSnapshot makes the file of the keyspace at rev (0: the head), or of the changes since a revision (0: of
// everything). version is the storage version in the file. Errors are those that Err knows, and others that have a
// status.
type MakeSnapshot func(ctx context.Context, rev, since int64) (f SnapshotFile, version string, err error)

// Snapshot makes the file, and sends it with its SHA-256 after it.
func (s *maintenanceServer) Snapshot(
	_ *pb.SnapshotRequest,
	stream grpc.ServerStreamingServer[pb.SnapshotResponse],
) (err error) {
	ctx := stream.Context()
	rev, err := snapshotRevision(ctx, SnapshotRevision)
	if err != nil {
		return err
	}
	since, err := snapshotRevision(ctx, SnapshotSince)
	if err != nil {
		return err
	}
	f, version, err := s.snapshot(ctx, rev, since)
	if err != nil {
		return Err(err)
	}
	// The sender reads the file. It ends at the latest when this function has returned and so ended the stream.
	progress, done := make(chan struct{}), make(chan error, 1)
	go func() {
		err := sendSnapshot(f, version, stream.Send, progress)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		done <- err
	}()
	stall := time.NewTimer(snapshotStall)
	defer stall.Stop()
	for {
		select {
		case err := <-done:
			return Err(err)
		case <-progress:
			stall.Reset(snapshotStall)
		case <-stall.C:
			go drain(progress, done)
			return errSnapshotStalled
		case <-ctx.Done(): // of a client that may no longer have it the stream itself goes on
			go drain(progress, done)
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// drain lets the sender of an ended stream end.
func drain(progress <-chan struct{}, done <-chan error) {
	for {
		select {
		case <-progress:
		case <-done:
			return
		}
	}
}

// snapshotRevision returns the revision in a metadata, or 0.
func snapshotRevision(ctx context.Context, name string) (int64, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	given := md.Get(name)
	if len(given) == 0 {
		return 0, nil
	}
	rev, err := strconv.ParseInt(given[0], 10, 64)
	if err != nil || rev < 0 {
		return 0, status.Errorf(codes.InvalidArgument, "headwater: %s is not a revision", name)
	}
	return rev, nil
}

func sendSnapshot(
	f SnapshotFile,
	version string,
	send func(*pb.SnapshotResponse) error,
	progress chan<- struct{},
) error {
	sum, r := sha256.New(), f.Reader()
	for left := f.Size(); left > 0; {
		buf := make([]byte, min(left, snapshotChunk)) // Send keeps it
		if _, err := io.ReadFull(r, buf); err != nil {
			return err
		}
		sum.Write(buf)
		left -= int64(len(buf))
		resp := &pb.SnapshotResponse{RemainingBytes: uint64(left), Blob: buf, Version: version}
		if err := send(resp); err != nil {
			return err
		}
		progress <- struct{}{}
	}
	return send(&pb.SnapshotResponse{Blob: sum.Sum(nil), Version: version})
}
