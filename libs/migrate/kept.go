package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/libs/snapshot"
)

// keptPart ends the name of a snapshot that is still being received.
const keptPart = ".part"

// keptFile is where the source's snapshot is kept for the keyspace.
func (m *Migration) keptFile(cluster uint64) string {
	return filepath.Join(m.WorkDir, fmt.Sprintf("migrate-%016x-%s.db", cluster, m.Target.name))
}

// kept opens the snapshot that an interrupted copy has left, and returns the revision since which the source has to be
// watched. If there is none that can be gone on with, the file is nil and since is head. What passes, such as a source
// that does not answer now, is an error and costs no file.
func (m *Migration) kept(ctx context.Context, cluster uint64, head int64) (_ io.ReadCloser, since int64, err error) {
	if m.WorkDir == "" {
		return nil, head, nil
	}
	name := m.keptFile(cluster)
	r, err := snapshot.Open(ctx, name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, head, nil
	}
	if err == nil {
		since = r.Revision
		err = errors.Join(m.Source.has(ctx, since), r.Close())
	}
	switch {
	case err == nil:
		m.note("the copy goes on with the snapshot of revision %d in %s", since, name)
		f, err := os.Open(name)
		return f, since, err
	case !useless(err):
		return nil, 0, fmt.Errorf("the snapshot in %s: %w", name, err)
	}
	m.note("the snapshot in %s cannot be gone on with, and another one is taken: %v", name, err)
	return nil, head, os.Remove(name)
}

// useless says that a kept snapshot cannot be gone on with, now or later.
func useless(err error) bool {
	for _, reason := range []error{
		rpctypes.ErrCompacted, rpctypes.ErrFutureRev, snapshot.ErrDamaged, snapshot.ErrForeign, snapshot.ErrNoSum,
	} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// has returns an error if the source cannot show what it has done since a revision. Errors: ErrCompacted, ErrFutureRev
// (the source has been set back), those of a request.
func (s *Source) has(ctx context.Context, rev int64) error {
	ctx, cancel := small(ctx)
	defer cancel()
	_, err := s.c.Get(ctx, "\x00", clientv3.WithRev(rev), clientv3.WithCountOnly())
	if err != nil {
		return fmt.Errorf("revision %d of the source: %w", rev, err)
	}
	return nil
}

// take opens a snapshot of the source, which it keeps if there is a place for it.
func (m *Migration) take(ctx context.Context, cluster uint64) (io.ReadCloser, error) {
	file, err := m.Source.Snapshot(ctx)
	if err != nil || m.WorkDir == "" {
		return file, err
	}
	defer file.Close()
	name := m.keptFile(cluster)
	f, err := os.OpenFile(name+keptPart, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // it has hashes of passwords
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(f, file)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(name+keptPart, name)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(name+keptPart))
	}
	m.report(Progress{Phase: Copying, Bytes: n})
	return os.Open(name)
}

// drop removes the snapshot that was kept, if there is one.
func (m *Migration) drop(cluster uint64) {
	if m.WorkDir == "" {
		return
	}
	if err := os.Remove(m.keptFile(cluster)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.note("the snapshot of the copy is left: %v", err)
	}
}
