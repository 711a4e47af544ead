package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine"
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

// restoreStream is what Restore answers on.
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
	o, err := restoreOptions(first)
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
	r, err := snapshot.OpenTemp(stream.Context(), f, first.GetSkipHashCheck())
	if err != nil {
		return grpcErr(err)
	}
	done, err := m.restore(p, first.GetKeyspace(), settings, o, r)
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

// receive writes the parts into a file that nobody else finds, for snapshot.OpenTemp.
func (m *migration) receive(p *progress) (*os.File, error) {
	dir, reserve, err := m.Host.RestoreDir()
	if err != nil {
		return nil, err
	}
	f, err := snapshot.TempFile(dir)
	if err != nil {
		return nil, err
	}
	if err := p.write(f, dir, reserve); err != nil {
		return nil, errors.Join(err, snapshot.CloseTemp(f))
	}
	return f, nil
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

// restoreOptions are what a request says, without the place.
func restoreOptions(r *adminv1.RestoreRequest) (o snapshot.RestoreOptions, err error) {
	if r.GetBumpRevision() > math.MaxInt64 {
		return o, status.Errorf(codes.InvalidArgument, "a revision cannot be bumped by %d", r.GetBumpRevision())
	}
	o.Bump, o.MarkCompacted = int64(r.GetBumpRevision()), r.GetMarkCompacted()
	o.WithoutAuth = r.GetWithoutAuth()
	if r.GetFollow() {
		o.Follow = &mvcc.Follow{Source: r.GetSource()}
	}
	if err := o.Check(); err != nil {
		return o, status.Error(codes.InvalidArgument, err.Error())
	}
	return o, nil
}

// restore makes the keyspace. Where others write the store too it goes on with what a restore of the same file has left
// that was interrupted; else, and when it fails for good, what has been written is cleared.
func (m *migration) restore(
	p *progress, name string, settings *keyspacev1.Keyspace, o snapshot.RestoreOptions, r *snapshot.Reader,
) (done snapshot.Restored, err error) {
	ctx := p.stream.Context()
	if err := m.Host.Prepare(ctx); err != nil {
		return done, err
	}
	o.Progress = func(n int64) { p.revisions = n; p.send() }
	if !m.Engine.Limits().Dense {
		left, err := keyspace.Reserved(ctx, m.Engine, m.Root, name)
		if err != nil {
			return done, err
		}
		for _, info := range left {
			if done, err = m.fill(ctx, info, settings, o, r); !errors.Is(err, mvcc.ErrOtherImport) {
				return done, err
			}
		}
	}
	info, err := keyspace.Reserve(ctx, m.Engine, m.Root, name, settings)
	if err != nil {
		return done, err
	}
	return m.fill(ctx, info, settings, o, r)
}

// fill makes a reserved keyspace of a file, with the settings of this request. Errors: mvcc.ErrOtherImport, of one that
// is left as it is.
func (m *migration) fill(
	ctx context.Context, info keyspace.Info, settings *keyspacev1.Keyspace, o snapshot.RestoreOptions,
	r *snapshot.Reader,
) (done snapshot.Restored, err error) {
	o.Prefix, o.Beside = info.Prefix, m.Host.Beside(info.ID)
	if done, err = snapshot.Restore(ctx, r, m.Engine, o); err == nil {
		info, err = keyspace.Publish(ctx, m.Engine, m.Root, info.ID, settings)
	}
	switch {
	case err == nil:
		return done, m.published(ctx, info, o.Beside != nil)
	case errors.Is(err, mvcc.ErrOtherImport), !m.Engine.Limits().Dense && passes(err):
		return done, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	if abandonErr := keyspace.Abandon(ctx, m.Engine, m.Root, info.ID); abandonErr != nil {
		err = fmt.Errorf("%w (what has been written is cleared at the next start: %w)", err, abandonErr)
	}
	return done, err
}

// passes tells whether a restore that has failed so may be gone on with: nothing is wrong with the file.
func passes(err error) bool {
	for _, passing := range []error{
		context.Canceled, context.DeadlineExceeded, mvcc.ErrUnavailable, mvcc.ErrClosed, mvcc.ErrNoSpace,
		mvcc.ErrOvertaken,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return engine.ClassOf(err).Passes()
}

// published does what is left to do for a keyspace that has got its name.
func (m *migration) published(ctx context.Context, info keyspace.Info, shared bool) error {
	if shared { // who keeps its leases has been told by its rows
		return m.giveUp(ctx, info.Name, nil) // what else was to have that name
	}
	_, leave, err := m.Host.Visit(ctx, info.Name) // its leases begin to run when it is opened
	if err == nil {
		leave()
	}
	return err
}
