package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Limits of Restore.
const (
	// restoresMax bounds the restores that a process makes at the same time.
	restoresMax = 1
	// partsBytes is how many bytes are received between two checks of the free space and reports of progress.
	partsBytes = 16 << 20
	// abandonTimeout bounds the time to give up an incomplete keyspace.
	abandonTimeout = 10 * time.Second
)

// partsPattern is the name of a file while it is received.
const partsPattern = "headwater-restore-*.tmp"

// restoreStream is the stream of a call of Restore.
type restoreStream = grpc.BidiStreamingServer[adminv1.RestoreRequest, adminv1.RestoreProgress]

// Restore implements adminv1.MigrationServer. The whole file is received and checked before the keyspace is made.
func (m *migration) Restore(stream restoreStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	settings, err := m.settingsOfNew(first)
	if err != nil {
		return err
	}
	select {
	case m.restoring <- struct{}{}:
		defer func() { <-m.restoring }()
	default:
		return status.Errorf(codes.ResourceExhausted, "%d restores are already under way", restoresMax)
	}
	p := &progress{stream: stream}
	f, err := m.receive(p)
	if err != nil {
		return grpcErr(err)
	}
	r, err := openOnce(stream.Context(), f, first.GetSkipHashCheck())
	if err != nil {
		return grpcErr(err)
	}
	done, err := m.restore(p, first, settings, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return grpcErr(err)
	}
	return stream.Send(&adminv1.RestoreProgress{
		Bytes: p.bytes, Revisions: p.revisions,
		Done: &adminv1.Restored{Revision: done.Revision, CompactRevision: done.Compact},
	})
}

// settingsOfNew checks the name and the settings of the new keyspace.
func (m *migration) settingsOfNew(r *adminv1.RestoreRequest) (*keyspacev1.Keyspace, error) {
	const instead = "restored: headwaterctl snapshot restore makes a data directory"
	if err := m.refuseFirst(r.GetKeyspace(), instead); err != nil {
		return nil, err
	}
	if err := m.checkEnforced(r.GetSettings()); err != nil {
		return nil, err
	}
	s := r.GetSettings()
	wanted := &keyspacev1.Keyspace{
		Limits: s.GetLimits(), Weight: s.GetWeight(), Labels: s.GetLabels(), Access: s.GetAccess(),
	}
	if wanted.Access == nil {
		wanted.Access = &keyspacev1.AccessRule{Open: !m.Host.KnowsClients()}
	}
	return wanted, grpcErr(keyspace.Check(r.GetKeyspace(), wanted))
}

// progress reports the progress of a restore.
type progress struct {
	stream           restoreStream
	bytes, revisions int64
}

// send reports the progress. If the client has gone, the context of the call ends the restore.
func (p *progress) send() {
	_ = p.stream.Send(&adminv1.RestoreProgress{Bytes: p.bytes, Revisions: p.revisions})
}

// receive writes the parts of a file. The caller removes the file at path.
func (m *migration) receive(p *progress) (path string, err error) {
	dir, reserve, err := m.Host.RestoreDir()
	if err != nil {
		return "", err
	}
	left, _ := filepath.Glob(filepath.Join(dir, partsPattern)) // left by a process that was killed
	for _, path := range left {
		_ = os.Remove(path)
	}
	f, err := os.CreateTemp(dir, partsPattern)
	if err != nil {
		return "", err
	}
	err = p.write(f, dir, reserve)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func (p *progress) write(f io.Writer, dir string, reserve int64) error {
	next := int64(0)
	for {
		if p.bytes >= next {
			if err := snapshot.Room(dir, reserve, partsBytes); err != nil {
				return err
			}
			next += partsBytes
			p.send()
		}
		r, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := f.Write(r.GetPart()); err != nil {
			return err
		}
		p.bytes += int64(len(r.GetPart()))
	}
}

// openOnce opens a file that is removed when it is closed.
func openOnce(ctx context.Context, path string, skip bool) (*snapshot.Reader, error) {
	r, err := snapshot.Open(ctx, path, skip)
	if removeErr := os.Remove(path); removeErr != nil && err == nil {
		return nil, errors.Join(removeErr, r.Close())
	}
	return r, err
}

// restore makes the keyspace. If it fails there is none, and its rows are cleared.
func (m *migration) restore(
	p *progress, first *adminv1.RestoreRequest, settings *keyspacev1.Keyspace, r *snapshot.Reader,
) (done snapshot.Restored, err error) {
	ctx := p.stream.Context()
	if err := m.Host.Prepare(ctx); err != nil {
		return done, err
	}
	info, err := keyspace.Reserve(ctx, m.Engine, m.Root, first.GetKeyspace(), settings)
	if err != nil {
		return done, err
	}
	o := snapshot.RestoreOptions{
		Prefix: info.Prefix, Progress: func(n int64) { p.revisions = n; p.send() },
	}
	if first.GetFollow() {
		o.Follow = &mvcc.Follow{Source: first.GetSource()}
	}
	if done, err = snapshot.Restore(ctx, r, m.Engine, o); err == nil {
		info, err = keyspace.Publish(ctx, m.Engine, m.Root, info.ID)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
		defer cancel()
		if abandonErr := keyspace.Abandon(ctx, m.Engine, m.Root, info.ID); abandonErr != nil {
			err = fmt.Errorf("%w (its rows will be cleared at the next start: %w)", err, abandonErr)
		}
		return done, err
	}
	// The leases begin to run when the keyspace is opened.
	_, leave, err := m.Host.Visit(ctx, info.Name)
	if err == nil {
		leave()
	}
	return done, err
}
