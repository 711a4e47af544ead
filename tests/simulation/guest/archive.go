//go:build wasip1 || headwater_simulation

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/backup"
	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/migrate"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/snapshot"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	// restoredKeyspace is what the traffic's keyspace is restored into.
	restoredKeyspace = "restored"
	archivePause     = 600 * time.Millisecond // between two backups, at most
	archiveTimeout   = 5 * time.Second        // of one
	// fullIn is how many backups there are for each that is asked to be a full one.
	fullIn = 4
	// archiveMin is how many backups there are before a restore begins while there are faults.
	archiveMin = 3
	// archiveFaults is how many calls there are for each that a place fails.
	archiveFaults = 60
)

// archive is what headwaterctl backup does: full backups and logs of the traffic's keyspace in a place, from which
// another keyspace is restored, as it was at some revision.
type archive struct {
	w      *world
	cli    *clientv3.Client
	place  *shelf
	cancel context.CancelFunc
	wg     sync.WaitGroup
	rnd    *rand.Rand
	heads  []int64 // revisions of writes, from between the backups
	// target is the revision that is restored, and plan has the backups for it; 0: none yet.
	target int64
	plan   backup.Plan
	done   bool // the keyspace is there
}

func (w *world) startArchive(ctx context.Context) (*archive, error) {
	if !w.plan.archive || w.clients == 0 {
		return nil, nil
	}
	cli, err := w.client(w.addrs(outside, w.first())...)
	if err != nil {
		return nil, err
	}
	a := &archive{w: w, cli: cli, rnd: w.rand("archive")}
	a.place = &shelf{rnd: w.rand("shelf"), seen: &w.seen, objects: make(map[string]shelved)}
	ctx, a.cancel = context.WithCancel(ctx)
	a.wg.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			if err := a.step(ctx, n); err != nil {
				w.tracef("archive", "%v", err)
			}
			select {
			case <-time.After(between(a.rnd, 0, archivePause)):
			case <-ctx.Done():
			}
		}
	})
	return a, nil
}

// repository is the place as a command sees it that has just been started.
func (a *archive) repository() *backup.Repository {
	return backup.NewRepository(a.place, backup.Keys{}, os.TempDir())
}

// step takes a backup and, when there are some, restores, if that has not been done.
func (a *archive) step(ctx context.Context, n int) error {
	if err := a.take(ctx); err != nil || n < archiveMin || a.done {
		return err
	}
	return a.restore(ctx)
}

// take takes a backup: mostly a log.
func (a *archive) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel()
	kind := backup.Log
	if a.rnd.IntN(fullIn) == 0 {
		kind = backup.Full
	}
	taken, err := a.repository().Take(ctx, archiveSource{a}, a.w.c.traffic, kind, time.Now)
	if err != nil {
		a.w.seen.note("archive: no backup")
		return err
	}
	a.w.seen.note("archive: " + taken.Kind + " backup")
	if taken.Why != "" {
		a.w.seen.note("archive: full backup instead of a log")
	}
	return nil
}

// aim chooses what is restored: a revision that a log has, if there is one, or the newest.
func (a *archive) aim(ctx context.Context) error {
	r := a.repository()
	ms, _, err := r.List(ctx)
	if err != nil {
		return err
	}
	var t backup.Target
	within := slices.DeleteFunc(slices.Clone(a.heads), func(rev int64) bool {
		return !slices.ContainsFunc(ms, func(m backup.Manifest) bool {
			return m.Kind == backup.Log && m.Since < rev && rev < m.Revision
		})
	})
	if len(within) > 0 && a.rnd.IntN(4) != 0 {
		t.Revision = within[a.rnd.IntN(len(within))]
		a.w.seen.note("archive: revision within a log")
		if a.rnd.IntN(2) == 0 { // as it was before that write; mostly nothing was written then
			t.Revision--
			a.w.seen.note("archive: revision before a write")
		}
	}
	if a.plan, err = r.Plan(ctx, t); err != nil {
		return err
	}
	a.target = a.plan.Revision
	a.w.tracef("archive", "revision %d is to be restored, from %d backups", a.target, len(a.plan.Chain))
	if len(a.plan.Chain) > 1 {
		a.w.seen.note("archive: restored from logs")
	}
	return nil
}

// restore makes the keyspace. An attempt that fails is repeated, with the same revision, and goes on where it was.
func (a *archive) restore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel()
	if a.target == 0 {
		if err := a.aim(ctx); err != nil {
			return err
		}
	}
	err := a.repository().Restore(ctx, a.plan, func(ctx context.Context, c *snapshot.Content) error {
		f, err := snapshot.WriteContent(ctx, c, snapshot.Options{})
		if err != nil {
			return err
		}
		_, err = migrate.Restore(ctx, &adminConn{w: a.w}, &adminv1.RestoreRequest{Keyspace: restoredKeyspace},
			io.NopCloser(f.Summed()), func(*adminv1.RestoreProgress) {})
		return errors.Join(err, f.Close())
	})
	// An attempt of which the answer was lost may have done it.
	if a.done = err == nil || status.Code(err) == codes.AlreadyExists; a.done {
		return nil
	}
	a.w.seen.note("archive: restore begun again")
	return fmt.Errorf("restore: %w", err)
}

// stop takes a last backup and restores, if that has not been done, now that all is well.
func (a *archive) stop(ctx context.Context) error {
	if a == nil {
		return nil
	}
	a.cancel()
	a.wg.Wait()
	a.place.fair()
	ctx, cancel := context.WithTimeout(ctx, liveWithin)
	defer cancel()
	var err error
	for ctx.Err() == nil {
		if err = a.take(ctx); err == nil && !a.done {
			err = a.restore(ctx)
		}
		if err == nil {
			return nil
		}
		a.w.tracef("archive", "%v", err)
		time.Sleep(movePause)
	}
	return fmt.Errorf("archive: not restored within %v after the last fault: %w", liveWithin, err)
}

// judge holds what was restored against the log of the keyspace that it comes from: its keys are those that there were
// at the revision, and its history is the same from where both begin. Since then nothing has happened but the ends of
// leases that the backup does not know: they had ended while it was taken.
func (a *archive) judge(ctx context.Context, log []revlog.Entry) (err error) {
	if a == nil || !a.done {
		return nil
	}
	store, err := opened(ctx, a.w.db, restoredKeyspace)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	if store == nil {
		return fmt.Errorf("archive: there is no keyspace %s", restoredKeyspace)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	entries, err := inproc.ReadLog(ctx, store)
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	a.w.seen.note("archive: restored")
	got := account{compact: a.plan.Chain[0].Compact, now: state{}, then: state{}}
	at, since, err := onlyEnds(entries, a.target)
	if err != nil {
		return fmt.Errorf("archive: restored at revision %d: %w", a.target, err)
	}
	a.w.seen.add("archive: leases ended after the restore", since)
	_, err = store.Range(ctx, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}, Rev: at},
		func(kv *mvcc.KV) error {
			got.now[string(kv.Key)] = describeKV(kv)
			return nil
		})
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	want := account{compact: got.compact}
	want.addAll(log, a.target)
	past := account{compact: got.compact}
	past.addAll(entries, a.target)
	if err := errors.Join(got.now.compare(want.now, a.target), past.compareHistory(want, a.target)); err != nil {
		return fmt.Errorf("archive: restored from %d backups: %w", len(a.plan.Chain), err)
	}
	return nil
}

// onlyEnds returns the last revision up to target, 0 if there is none, and how many there are after it. Those must
// delete keys with leases.
func onlyEnds(entries []revlog.Entry, target int64) (last int64, since int, err error) {
	for i := range entries {
		e := &entries[i]
		if e.Rev <= target {
			last = e.Rev
			continue
		}
		since++
		for _, ev := range e.Events {
			if !ev.Delete || ev.Prev.Lease == 0 {
				return 0, 0, fmt.Errorf("%q changed at revision %d", ev.KV.Key, e.Rev)
			}
		}
	}
	return last, since, nil
}

// archiveSource is a keyspace that is backed up, as headwaterctl has it.
type archiveSource struct{ *archive }

// Cluster implements backup.Source.
func (s archiveSource) Cluster(ctx context.Context) (uint64, error) {
	resp, err := s.cli.Get(in(ctx, s.w.c.traffic), "alive")
	if err != nil {
		return 0, err
	}
	s.heads = append(s.heads, resp.Header.Revision)
	return resp.Header.ClusterId, nil
}

// Snapshot implements backup.Source.
func (s archiveSource) Snapshot(ctx context.Context, since int64, to *os.File) error {
	ctx = in(ctx, s.w.c.traffic)
	if since > 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, etcdapi.SnapshotSince, fmt.Sprint(since))
	}
	file, err := s.cli.Snapshot(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, file)
	if err = errors.Join(err, file.Close()); errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("%w: %w", backup.ErrNoLog, err)
	}
	return err
}

// shelf is a place for backups in memory, some of whose calls fail, as those of a bucket do: what was to be put may be
// there all the same.
type shelf struct {
	seen *seen

	mu      sync.Mutex
	rnd     *rand.Rand // nil: no call fails
	objects map[string]shelved
}

type shelved struct {
	b  []byte
	at time.Time
}

var errShelf = errors.New("the place does not answer")

// fair ends the faults.
func (s *shelf) fair() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rnd = nil
}

// fault is whether a call fails. s.mu is held.
func (s *shelf) fault() error {
	if s.rnd == nil || s.rnd.IntN(archiveFaults) != 0 {
		return nil
	}
	s.seen.note("archive: fault of the place")
	return errShelf
}

// Put implements backup.Place.
func (s *shelf) Put(_ context.Context, name string, r io.Reader, size int64) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if int64(len(b)) != size {
		return fmt.Errorf("%s has %d bytes, not %d", name, len(b), size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.fault()
	if err == nil || s.rnd.IntN(2) == 0 {
		s.objects[name] = shelved{b, time.Now()}
	}
	return err
}

// Open implements backup.Place.
func (s *shelf) Open(_ context.Context, name string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault(); err != nil {
		return nil, err
	}
	o, ok := s.objects[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(o.b)), nil
}

// List implements backup.Place.
func (s *shelf) List(context.Context) (all []backup.Object, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault(); err != nil {
		return nil, err
	}
	for name, o := range s.objects {
		all = append(all, backup.Object{Name: name, Bytes: int64(len(o.b)), Modified: o.at})
	}
	slices.SortFunc(all, func(a, b backup.Object) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Remove implements backup.Place.
func (s *shelf) Remove(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.fault(); err != nil {
		return err
	}
	delete(s.objects, name)
	return nil
}
