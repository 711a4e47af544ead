package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/headwaterdb/headwater/libs/snapshot"
)

// Source is the server whose keyspace is backed up.
type Source interface {
	// Cluster returns the id of the keyspace.
	Cluster(ctx context.Context) (uint64, error)
	// Snapshot writes a snapshot with its checksum. If since is not 0, the snapshot has the changes since that
	// revision. Error: ErrNoLog if the source does not have them.
	Snapshot(ctx context.Context, since int64, to *os.File) error
}

var (
	// ErrNoLog: a source does not have the changes since a revision.
	ErrNoLog = errors.New("the history since the last backup is gone")
	// ErrOther: a place has backups of another keyspace, or two servers are backed up into it.
	ErrOther = errors.New("the place holds backups of another keyspace")
)

// Taken describes a backup that was taken. Why says why it is a full backup although a log was wanted. "": it is what
// was wanted.
type Taken struct {
	Manifest
	Why string
}

// Take takes a backup: a full one, or a log of the changes since the newest one. If a log is not possible, or would
// belong to another history, Take makes a full backup. now is the current time. Errors: ErrOther, those of the source,
// the place, the context's.
func (r *Repository) Take(
	ctx context.Context, src Source, keyspace, kind string, now func() time.Time,
) (t Taken, err error) {
	ms, _, err := r.List(ctx)
	if err != nil {
		return t, err
	}
	for _, m := range ms {
		if m.Keyspace != keyspace {
			return t, fmt.Errorf("%w: %q", ErrOther, m.Keyspace)
		}
	}
	cluster, err := src.Cluster(ctx)
	if err != nil {
		return t, err
	}
	take := taking{Repository: r, src: src, now: now, m: Manifest{
		Kind: kind, Keyspace: keyspace, Cluster: strconv.FormatUint(cluster, 16),
	}}
	if len(ms) > 0 {
		take.newest = ms[len(ms)-1].Time
	}
	if err := alone(ms, take.m.Cluster); err != nil {
		return t, err
	}
	why := ""
	if kind == Log {
		var parent Manifest
		if parent, why = parentOf(ms, take.m.Cluster); why == "" {
			if why, err = take.log(ctx, parent); take.m.ID != "" || err != nil {
				return Taken{take.m, why}, err
			}
		}
	}
	err = take.full(ctx)
	return Taken{take.m, why}, err
}

// alone refuses a place that another server is backed up into as well. That is so if a backup of another cluster id is
// newer than the last one of this server: a restore of this server would have ended the older id. Two servers in one
// place would turn each other's logs into full backups, and retention would soon remove the backups of both.
func alone(ms []Manifest, cluster string) error {
	mine := slices.ContainsFunc(ms, func(m Manifest) bool { return m.Cluster == cluster })
	if !mine || ms[len(ms)-1].Cluster == cluster {
		return nil
	}
	return fmt.Errorf("%w: the newest one is of the cluster id %s, and came after the last one of this server (%s): "+
		"each server needs a place of its own", ErrOther, ms[len(ms)-1].Cluster, cluster)
}

// parentOf returns the backup that a log continues, or says why there is none.
func parentOf(ms []Manifest, cluster string) (Manifest, string) {
	if len(ms) == 0 {
		return Manifest{}, "there is no backup yet"
	}
	p := ms[len(ms)-1]
	if p.Cluster != cluster {
		return p, fmt.Sprintf("the keyspace has another id (%s, not %s): it was restored, or it is another keyspace",
			cluster, p.Cluster)
	}
	if _, err := chain(ms, p); err != nil {
		return p, err.Error()
	}
	return p, ""
}

// taking is one call of Take.
type taking struct {
	*Repository
	src Source
	now func() time.Time
	m   Manifest
	// newest is the time of the newest backup. A later backup gets a later time, even if the clock has been set back.
	newest time.Time
}

// log takes a log. If that is not possible it says why. Then it has stored nothing (m has no ID), or a full backup.
func (t *taking) log(ctx context.Context, parent Manifest) (why string, err error) {
	err = t.get(ctx, parent.Revision, func(s *snapshot.Reader) error {
		if s.Since == 0 { // a server without logs, such as etcd, sends a whole snapshot
			why = "the server sends no logs"
			return errors.Join(t.isFull(s), t.noted(s))
		}
		head, err := sumOf(s, s.Since)
		if err != nil {
			return err
		}
		if s.Since != parent.Revision || head != parent.Tail {
			why = "the server's history differs from that of the last backup"
			return nil
		}
		t.m.Kind, t.m.Parent, t.m.Since, t.m.Compact = Log, parent.ID, s.Since, -1
		return t.noted(s)
	})
	if errors.Is(err, ErrNoLog) {
		return err.Error(), nil
	}
	return why, err
}

func (t *taking) full(ctx context.Context) error {
	return t.get(ctx, 0, func(s *snapshot.Reader) error { return errors.Join(t.isFull(s), t.noted(s)) })
}

func (t *taking) isFull(s *snapshot.Reader) error {
	if s.Since != 0 {
		return fmt.Errorf("the server sent a log since %d instead of a whole snapshot", s.Since)
	}
	t.m.Kind, t.m.Parent, t.m.Since, t.m.Compact = Full, "", 0, s.Compact
	return nil
}

// noted completes the manifest of a file.
func (t *taking) noted(s *snapshot.Reader) (err error) {
	t.m.Revision, t.m.Time = s.Revision, t.now().UTC().Truncate(time.Millisecond)
	if !t.m.Time.After(t.newest) {
		t.m.Time = t.newest.Add(time.Millisecond)
	}
	t.m.ID = newID(t.m.Time, t.m.Kind)
	t.m.Tail, err = tailOf(s)
	return err
}

// get fetches a file. look reads it, and may give it an ID; then get stores it.
func (t *taking) get(ctx context.Context, since int64, look func(s *snapshot.Reader) error) (err error) {
	f, err := snapshot.TempFile(t.tmp)
	if err != nil {
		return err
	}
	if err := t.src.Snapshot(ctx, since, f); err != nil {
		return errors.Join(err, snapshot.CloseTemp(f))
	}
	s, err := snapshot.OpenTemp(ctx, f, false)
	if err != nil {
		return fmt.Errorf("what the server has sent: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := look(s); err != nil || t.m.ID == "" {
		return err
	}
	if after, err := t.src.Cluster(ctx); err != nil || strconv.FormatUint(after, 16) != t.m.Cluster {
		return errors.Join(err, errors.New("the keyspace was replaced while it was backed up"))
	}
	t.m, err = t.store(ctx, t.m, s.Raw())
	return err
}
