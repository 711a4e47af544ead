package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/snapshot"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// Phase is what a migration is doing.
type Phase int

// The phases.
const (
	Copying Phase = iota
	Following
	Comparing
	CuttingOver
)

// String is for people.
func (p Phase) String() string {
	return [...]string{"copying", "following", "comparing", "cutting over"}[p]
}

// Progress is how far a migration is.
type Progress struct {
	Phase Phase
	// Bytes of the file that have been sent, and Revisions that have been made of it, while Copying.
	Bytes, Revisions int64
	// Revision is that of the keyspace, or the one that is compared, and Source the last one known of the source.
	Revision, Source int64
	// Behind is since when the keyspace has not been where the source is.
	Behind time.Duration
	// Keys have been compared.
	Keys int64
}

// Migration makes a keyspace a copy of a source.
type Migration struct {
	Source *Source
	Target *Target
	// TempDir is where a file of the source is put whose users are wanted; "": the system's.
	TempDir string
	// Report, if set, is told of progress, by several goroutines; it must be quick.
	Report func(Progress)
	// Note, if set, is told what happens, in one line each.
	Note func(line string)

	early *tail // of the time since before the copy was made; nil: there is none
}

// Close ends what a copy has begun and nothing has gone on with.
func (m *Migration) Close() {
	if m.early != nil {
		m.early.close()
		m.early = nil
	}
}

func (m *Migration) report(p Progress) {
	if m.Report != nil {
		m.Report(p)
	}
}

func (m *Migration) note(format string, args ...any) {
	if m.Note != nil {
		m.Note(fmt.Sprintf(format, args...))
	}
}

// Errors of a migration.
var (
	// ErrNotFollowing says that a keyspace is there and follows nothing: it has been cut over, or never was a copy.
	ErrNotFollowing = errors.New("the keyspace is there, and follows no source")
	// ErrOtherSource says that a keyspace was made of a file that is not the source's.
	ErrOtherSource = errors.New("the keyspace was made of a snapshot of another etcd than this source")
	// ErrBusy says that the source is still being written, and so cannot be cut over from.
	ErrBusy = errors.New("the source is still being written: stop its writers")
)

// Prepare makes the keyspace a copy of the source as it is, if it is not there yet. Errors: ErrNotFollowing,
// ErrOtherSource, those of either side.
func (m *Migration) Prepare(ctx context.Context) error {
	cluster, head, err := m.Source.Head(ctx)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	st, err := m.Target.followed(ctx)
	switch {
	case status.Code(err) == codes.NotFound:
		return m.copy(ctx, cluster, nil)
	case err != nil:
		return err
	case !st.GetFollows() && !m.Target.replaceable():
		return fmt.Errorf("%w (it is at revision %d): a data directory for it is made by snapshot restore --follow",
			ErrNotFollowing, st.GetRevision())
	case !st.GetFollows():
		return fmt.Errorf("%w (it is at revision %d)", ErrNotFollowing, st.GetRevision())
	case st.GetSource() != 0 && st.GetSource() != cluster:
		return fmt.Errorf("the keyspace follows the cluster %x, not %x", st.GetSource(), cluster)
	case st.GetSource() == 0:
		if err := m.recognize(ctx, st.GetRevision(), head); err != nil {
			return err
		}
	}
	m.note("the keyspace is a copy at revision %d, and goes on from there", st.GetRevision())
	return nil
}

// recognize refuses a source that the keyspace is no copy of, before the keyspace is bound to it: one that was made of
// a file (snapshot restore --follow) does not know the cluster's id yet. It looks at the first keys of both. Errors:
// ErrOtherSource, those of either side.
func (m *Migration) recognize(ctx context.Context, rev, head int64) error {
	if head < rev {
		return fmt.Errorf("%w: it is at revision %d, the keyspace at %d", ErrOtherSource, head, rev)
	}
	_, err := m.compareKeys(ctx, rev, recognizeKeys)
	var differs *DiffersError
	switch {
	case errors.As(err, &differs):
		return fmt.Errorf("%w: %w", ErrOtherSource, err)
	case errors.Is(err, rpctypes.ErrCompacted): // it cannot be told: what is replayed has to fit
		return nil
	}
	return err
}

// copy makes the keyspace of a snapshot of the source. What is written there meanwhile is watched from the beginning,
// so that it may be compacted.
func (m *Migration) copy(ctx context.Context, cluster uint64, settings *adminv1.Settings) error {
	m.Close()
	_, head, err := m.Source.Head(ctx)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	m.early = m.Source.tail(ctx, head+1)
	file, err := m.Source.Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("the source's snapshot: %w", err)
	}
	done, err := m.Target.restore(ctx, cluster, settings, file, func(p *adminv1.RestoreProgress) {
		m.report(Progress{Phase: Copying, Bytes: p.GetBytes(), Revisions: p.GetRevisions()})
	})
	if err != nil {
		return err
	}
	if done.GetRevision() < head { // the file is of a member that is behind
		m.Close()
	}
	m.note(
		"copied up to revision %d, with the history from %d on", done.GetRevision(), max(1, done.GetCompactRevision()),
	)
	return nil
}

// again gives up a copy that cannot go on, since the source has compacted what it would need, and makes another one.
// Errors: ErrNotFollowing, those of either side.
func (m *Migration) again(ctx context.Context) error {
	cluster, _, err := m.Source.Head(ctx)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	st, err := m.Target.followed(ctx)
	if err == nil && !st.GetFollows() {
		err = ErrNotFollowing
	}
	if err != nil {
		return err
	}
	ks, err := m.Target.keyspaces.Show(ctx, &adminv1.ShowRequest{Name: m.Target.name})
	if err != nil {
		return err
	}
	if _, err := m.Target.keyspaces.Delete(ctx, &adminv1.DeleteRequest{Name: m.Target.name}); err != nil {
		return err
	}
	return m.copy(ctx, cluster, ks.GetSettings())
}

// TakeAuth makes the users and roles those of the source, if they are not. Their hashes are in snapshots only. Errors:
// those of either side.
func (m *Migration) TakeAuth(ctx context.Context) (taken bool, err error) {
	st, err := m.Target.followed(ctx)
	if err != nil {
		return false, err
	}
	if same, told, err := m.sameAuth(ctx, st); same && told || err != nil {
		return false, err
	}
	a, err := m.readAuth(ctx)
	if err == nil {
		err = m.Target.setAuth(ctx, a)
	}
	return err == nil, err
}

// sameAuth tells whether the keyspace has the users and roles of the source, as far as that tells it.
func (m *Migration) sameAuth(ctx context.Context, st *adminv1.FollowedResponse) (same, told bool, err error) {
	there, told, err := m.Source.auth(ctx)
	if err != nil {
		return false, false, fmt.Errorf("the source's users: %w", err)
	}
	return !told || there == authNumber{max(1, st.GetAuthRevision()), st.GetAuthEnabled()}, told, nil
}

// readAuth takes a snapshot of the source for its users and roles.
func (m *Migration) readAuth(ctx context.Context) (a snapshot.Auth, err error) {
	r, err := m.Download(ctx)
	if err != nil {
		return a, err
	}
	a, err = r.Auth(ctx)
	return a, errors.Join(err, r.Close())
}

// Download fetches a snapshot of the source into a file of which nothing is left when the Reader is closed. Errors:
// those of the source, of the file system, of snapshot.Open.
func (m *Migration) Download(ctx context.Context) (*snapshot.Reader, error) {
	file, err := m.Source.Snapshot(ctx)
	if err != nil {
		return nil, fmt.Errorf("the source's snapshot: %w", err)
	}
	defer file.Close()
	f, err := snapshot.TempFile(m.TempDir)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, file); err != nil {
		return nil, errors.Join(err, snapshot.CloseTemp(f))
	}
	return snapshot.OpenTemp(ctx, f, false)
}
