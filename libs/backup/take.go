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

// Source is a server that a keyspace is backed up from.
type Source interface {
	// Cluster is the id of the keyspace.
	Cluster(ctx context.Context) (uint64, error)
	// Snapshot writes a snapshot with its checksum, of what has changed since a revision if that is not 0. Error:
	// ErrNoLog where that cannot be had.
	Snapshot(ctx context.Context, since int64, to *os.File) error
}

var (
	// ErrNoLog says that a source has not got what has changed since a revision any more, or has never had it.
	ErrNoLog = errors.New("the history since the last backup is gone")
	// ErrOther says that a place holds backups of another keyspace, or that two servers are backed up into it.
	ErrOther = errors.New("the place holds backups of another keyspace")
)

// Taken is a backup that was taken. Why says why it is a full one though a log was wanted; "": it is what was wanted.
type Taken struct {
	Manifest
	Why string
}

// Take takes a backup: a full one, or a log of what has changed since the newest one. Where a log cannot be had, or
// would be of another history, it takes a full one. now is the clock. Errors: ErrOther, those of the source, the place,
// the context's.
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

// alone refuses a place into which another server is backed up too: its backups lie behind this one's, so that it was
// not this one that was restored. Each would make the other's logs full backups, and retention remove both's soon.
func alone(ms []Manifest, cluster string) error {
	mine := slices.ContainsFunc(ms, func(m Manifest) bool { return m.Cluster == cluster })
	if !mine || ms[len(ms)-1].Cluster == cluster {
		return nil
	}
	return fmt.Errorf("%w: the newest one is of the cluster id %s, and came after the last one of this server (%s): "+
		"each server needs a place of its own", ErrOther, ms[len(ms)-1].Cluster, cluster)
}

// parentOf is what a log goes on from, or why there is none.
func parentOf(ms []Manifest, cluster string) (Manifest, string) {
	if len(ms) == 0 {
		return Manifest{}, "there is no backup yet"
	}
	p := ms[len(ms)-1]
	if p.Cluster != cluster {
		return p, fmt.Sprintf("the keyspace has another id (%s, not %s): it was restored, or is another one",
			cluster, p.Cluster)
	}
	if _, err := chain(ms, p); err != nil {
		return p, err.Error()
	}
	return p, ""
}

// taking is one backup that is taken.
type taking struct {
	*Repository
	src Source
	now func() time.Time
	m   Manifest
	// newest is the time of the newest backup. A clock may have been set back: what comes later is later.
	newest time.Time
}

// log takes a log, or says why it is none: nothing has been stored then (m has no ID), or a full backup.
func (t *taking) log(ctx context.Context, parent Manifest) (why string, err error) {
	err = t.get(ctx, parent.Revision, func(s *snapshot.Reader) error {
		if s.Since == 0 { // a server that knows no logs, such as etcd, has sent all there is
			why = "the server knows no logs"
			return errors.Join(t.isFull(s), t.noted(s))
		}
		head, err := sumOf(s, s.Since)
		if err != nil {
			return err
		}
		if s.Since != parent.Revision || head != parent.Tail {
			why = "the server's history is not the one of the last backup"
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
		return fmt.Errorf("a log since %d has come where a whole snapshot was asked for", s.Since)
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

// get fetches a file and stores it if look, which reads it, has made an ID for it.
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
