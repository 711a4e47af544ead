package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/libs/snapshot"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// partBytes is the size of a part of a file.
const partBytes = 1 << 20

// Target is the keyspace that becomes a copy.
type Target struct {
	c         adminv1.MigrationClient
	keyspaces adminv1.KeyspacesClient
	name      string
}

// NewTarget returns a keyspace behind the admin API. It need not exist yet.
func NewTarget(conn grpc.ClientConnInterface, keyspace string) *Target {
	return &Target{adminv1.NewMigrationClient(conn), adminv1.NewKeyspacesClient(conn), keyspace}
}

// replaceable says whether the copy can be given up and made again. The first keyspace of a server cannot.
func (t *Target) replaceable() bool { return t.name != "" && t.name != firstKeyspace }

// firstKeyspace is the keyspace that a standalone server always has.
const firstKeyspace = "default"

func (t *Target) followed(ctx context.Context) (*adminv1.FollowedResponse, error) {
	ctx, cancel := small(ctx)
	defer cancel()
	return t.c.Followed(ctx, &adminv1.FollowedRequest{Keyspace: t.name})
}

// Restore makes a keyspace of a file, which it closes, as a request says whose part is empty. report is told of
// progress. On pods it goes on with what an interrupted one of the same file has left. Errors: those of the admin API,
// the file's.
func Restore(
	ctx context.Context, conn grpc.ClientConnInterface, r *adminv1.RestoreRequest, file io.ReadCloser,
	report func(*adminv1.RestoreProgress),
) (*adminv1.Restored, error) {
	return restore(ctx, adminv1.NewMigrationClient(conn), r, file, report)
}

// restore makes the keyspace of a file, which it closes, and has it follow.
func (t *Target) restore(
	ctx context.Context, source uint64, settings *adminv1.Settings, file io.ReadCloser,
	report func(*adminv1.RestoreProgress),
) (*adminv1.Restored, error) {
	return restore(ctx, t.c, &adminv1.RestoreRequest{
		Keyspace: t.name, Settings: settings, Follow: true, Source: source,
	}, file, report)
}

func restore(
	ctx context.Context, c adminv1.MigrationClient, first *adminv1.RestoreRequest, file io.ReadCloser,
	report func(*adminv1.RestoreProgress),
) (*adminv1.Restored, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Restore(ctx)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	sent := make(chan error, 1)
	go func() {
		err := sendFile(stream, first, file)
		if sent <- err; err != nil {
			cancel()
		}
	}()
	var done *adminv1.Restored
	for err == nil && done == nil {
		var p *adminv1.RestoreProgress
		if p, err = stream.Recv(); err == nil {
			report(p)
			done = p.GetDone()
		}
	}
	select {
	case sendErr := <-sent:
		// If the server has ended the call, Send returns EOF and Recv returns the reason.
		if sendErr != nil && done == nil && !errors.Is(sendErr, io.EOF) {
			err = sendErr
		}
		return done, errors.Join(err, file.Close())
	default:
		cancel()
		err = errors.Join(err, file.Close())
		<-sent
		return done, err
	}
}

func sendFile(stream adminv1.Migration_RestoreClient, first *adminv1.RestoreRequest, file io.Reader) error {
	if err := stream.Send(first); err != nil {
		return err
	}
	for {
		part := make([]byte, partBytes)
		n, err := io.ReadFull(file, part)
		if n > 0 {
			if err := stream.Send(&adminv1.RestoreRequest{Part: part[:n]}); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return stream.CloseSend()
		case err != nil:
			return fmt.Errorf("the file: %w", err)
		}
	}
}

// replay opens a stream on which revisions of the source are sent.
func (t *Target) replay(ctx context.Context, source uint64) (adminv1.Migration_ReplayClient, error) {
	stream, err := t.c.Replay(ctx)
	if err != nil {
		return nil, err
	}
	return stream, stream.Send(&adminv1.ReplayRequest{Keyspace: t.name, Source: source})
}

func ofVersions(list []*adminv1.Version) []*version {
	page := make([]*version, len(list))
	for i, v := range list {
		page[i] = &version{
			key: v.GetKey(), value: v.GetValue(), create: v.GetCreateRevision(), mod: v.GetModRevision(),
			version: v.GetVersion(), lease: v.GetLease(), length: v.GetValueSize(),
		}
	}
	return page
}

func (t *Target) page(ctx context.Context, begin []byte, rev, limit int64) (page []*version, more bool, err error) {
	r, err := t.c.Page(ctx, &adminv1.PageRequest{Keyspace: t.name, Revision: rev, Begin: begin, Limit: uint32(limit)})
	return ofVersions(r.GetVersions()), r.GetMore(), err
}

func (t *Target) some(ctx context.Context, keys [][]byte, rev int64) ([]*version, error) {
	r, err := t.c.Page(ctx, &adminv1.PageRequest{Keyspace: t.name, Revision: rev, Keys: keys})
	return ofVersions(r.GetVersions()), err
}

// setAuth replaces the users and roles by those of the source.
func (t *Target) setAuth(ctx context.Context, a snapshot.Auth) error {
	r := &adminv1.ReplaceAuthRequest{Keyspace: t.name, Enabled: a.Enabled, Revision: a.Revision}
	for _, u := range a.Users {
		b, err := proto.Marshal(u)
		if err != nil {
			return err
		}
		r.Users = append(r.Users, b)
	}
	for _, role := range a.Roles {
		b, err := proto.Marshal(role)
		if err != nil {
			return err
		}
		r.Roles = append(r.Roles, b)
	}
	_, err := t.c.ReplaceAuth(ctx, r)
	return err
}
