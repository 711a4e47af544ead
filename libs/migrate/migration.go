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

// Phase is what a migration is doing now.
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

// Progress is the progress of a migration.
type Progress struct {
	Phase Phase
	// Bytes is how many bytes of the file have been sent. Revisions is how many revisions have been made from it. Both
	// are for Copying.
	Bytes, Revisions int64
	// Revision is the keyspace's revision, or the one that is compared. Source is the newest known revision of the
	// source.
	Revision, Source int64
	// Behind is how long the keyspace has been behind the source.
	Behind time.Duration
	// Keys is how many keys have been compared.
	Keys int64
}

// Migration makes a keyspace a copy of a source.
type Migration struct {
	Source *Source
	Target *Target
	// TempDir is the directory for a file of the source from which users are read; "": the system's.
	TempDir string
	// WorkDir, if set, is the directory in which the first copy keeps the source's snapshot until the keyspace is
	// whole. If the copy is interrupted, however that happens, the next one goes on with the same file. It also takes
	// what the source does meanwhile, up to 16 GiB, as far as memory does not hold it.
	WorkDir string
	// Report, if set, is called with the progress, from several goroutines. It must return quickly.
	Report func(Progress)
	// Note, if set, is called with what happens, one line at a time.
	Note func(line string)

	early *tail // the log since before the copy was made; nil: there is none
}

// Close ends what a copy has started and nothing has continued.
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
	// ErrNotFollowing: a keyspace exists and follows nothing. It has been cut over, or was never a copy.
	ErrNotFollowing = errors.New("the keyspace exists and follows no source")
	// ErrOtherSource: a keyspace was made from a file of another source.
	ErrOtherSource = errors.New("the keyspace was made of a snapshot of another etcd than this source")
	// ErrBusy: the source is still being written, so a cut-over is not possible.
	ErrBusy = errors.New("the source is still being written: stop its writers")
)

// Prepare makes the keyspace a copy of the present source, if it does not exist yet. Errors: ErrNotFollowing,
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
		return fmt.Errorf("%w (it is at revision %d): snapshot restore --follow makes a data directory for it",
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
	m.drop(cluster) // a copy that was killed when it was whole has left it
	m.note("the keyspace is a copy at revision %d, and continues from there", st.GetRevision())
	return nil
}

// recognize refuses a source that the keyspace is not a copy of, before the keyspace is bound to it. A keyspace that
// was restored from a file (snapshot restore --follow) does not know the cluster's id yet. recognize compares the first
// keys of both. Errors: ErrOtherSource, those of either side.
func (m *Migration) recognize(ctx context.Context, rev, head int64) error {
	if head < rev {
		return fmt.Errorf("%w: it is at revision %d, the keyspace at %d", ErrOtherSource, head, rev)
	}
	_, err := m.compareKeys(ctx, rev, recognizeKeys)
	var differs *DiffersError
	switch {
	case errors.As(err, &differs):
		return fmt.Errorf("%w: %w", ErrOtherSource, err)
	case errors.Is(err, rpctypes.ErrCompacted): // unknown: the replay checks that its events fit
		return nil
	}
	return err
}

// copy makes the keyspace from a snapshot of the source. It watches the source from before the snapshot on, so that the
// source may compact in the meantime.
func (m *Migration) copy(ctx context.Context, cluster uint64, settings *adminv1.Settings) error {
	m.Close()
	_, head, err := m.Source.Head(ctx)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	file, since, err := m.kept(ctx, cluster, head)
	if err != nil {
		return err
	}
	m.early = m.Source.tail(ctx, since+1, m.WorkDir)
	if file == nil {
		file, err = m.take(ctx, cluster)
	}
	if err != nil {
		return fmt.Errorf("the source's snapshot: %w", err)
	}
	done, err := m.Target.restore(ctx, cluster, settings, file, func(p *adminv1.RestoreProgress) {
		m.report(Progress{Phase: Copying, Bytes: p.GetBytes(), Revisions: p.GetRevisions()})
	})
	if err != nil {
		return err
	}
	m.drop(cluster)
	if done.GetRevision() < since { // the file is from a member that is behind
		m.Close()
	}
	m.note(
		"copied up to revision %d, with the history from %d on", done.GetRevision(), max(1, done.GetCompactRevision()),
	)
	return nil
}

// again gives up a copy that cannot continue because the source has compacted what it needs, and makes another one.
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

// TakeAuth copies the users and roles of the source if they differ. Their hashes are in snapshots only. Errors: those
// of either side.
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

// sameAuth says whether the keyspace has the users and roles of the source. told is false if the source does not tell.
func (m *Migration) sameAuth(ctx context.Context, st *adminv1.FollowedResponse) (same, told bool, err error) {
	there, told, err := m.Source.auth(ctx)
	if err != nil {
		return false, false, fmt.Errorf("the source's users: %w", err)
	}
	return !told || there == authNumber{max(1, st.GetAuthRevision()), st.GetAuthEnabled()}, told, nil
}

// readAuth fetches a snapshot of the source and reads its users and roles.
func (m *Migration) readAuth(ctx context.Context) (a snapshot.Auth, err error) {
	r, err := m.Download(ctx)
	if err != nil {
		return a, err
	}
	a, err = r.Auth(ctx)
	return a, errors.Join(err, r.Close())
}

// Download fetches a snapshot of the source into a file that is removed when the Reader is closed. Errors: those of the
// source, of the file system, of snapshot.Open.
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
