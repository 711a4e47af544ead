//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/snapshot"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

const (
	backupPause   = time.Second // between two snapshots, at most
	backupTimeout = 5 * time.Second
	backupFile    = "backup.db" // in the run's own temporary directory
)

// backups takes snapshots of the traffic's keyspace while all else happens.
type backups struct {
	w      *world
	cli    *clientv3.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup
	files  []taken // whole ones
}

// taken is one snapshot.
type taken struct {
	file []byte
	rev  int64 // that was asked for; 0: none
}

func (w *world) startBackups(ctx context.Context) (*backups, error) {
	if !w.plan.backups || w.clients == 0 {
		return nil, nil
	}
	cli, err := w.client(w.addrs(outside, w.first())...)
	if err != nil {
		return nil, err
	}
	b := &backups{w: w, cli: cli}
	ctx, b.cancel = context.WithCancel(in(ctx, w.c.traffic))
	r := w.rand("backups")
	b.wg.Go(func() {
		for ctx.Err() == nil {
			past := time.Duration(-1)
			if r.IntN(2) == 0 {
				past = between(r, 0, backupPause/4)
			}
			if err := b.take(ctx, past); err != nil {
				w.tracef("backup", "%v", err)
				w.seen.note("backups: not whole")
			}
			select {
			case <-time.After(between(r, 0, backupPause)):
			case <-ctx.Done():
			}
		}
	})
	return b, nil
}

// take takes one snapshot, of the revision that there was a while ago unless past is negative.
func (b *backups) take(ctx context.Context, past time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, backupTimeout)
	defer cancel()
	var rev int64
	if past >= 0 {
		now, err := b.cli.Get(ctx, "alive")
		if err != nil {
			return err
		}
		rev = now.Header.Revision
		time.Sleep(past)
		ctx = metadata.AppendToOutgoingContext(ctx, etcdapi.SnapshotRevision, fmt.Sprint(rev))
	}
	file, err := b.cli.Snapshot(ctx)
	if err != nil {
		return err
	}
	all, err := io.ReadAll(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	b.files = append(b.files, taken{all, rev})
	return nil
}

// stop takes one more, now that all is well, and ends. A pod may still be about two snapshots whose clients have gone,
// and refuses a third.
func (b *backups) stop(ctx context.Context) error {
	if b == nil {
		return nil
	}
	b.cancel()
	b.wg.Wait()
	ctx, cancel := context.WithTimeout(in(ctx, b.w.c.traffic), liveWithin)
	defer cancel()
	err := b.take(ctx, -1)
	for err != nil && ctx.Err() == nil {
		b.w.tracef("backup", "%v", err)
		time.Sleep(userPause)
		err = b.take(ctx, -1)
	}
	if err != nil {
		err = fmt.Errorf("backups: no snapshot within %v after the last fault: %w", liveWithin, err)
	}
	return errors.Join(err, b.cli.Close())
}

// judge holds each snapshot against the log: its keys are those that there were at its revision, and its history is
// the log's.
func (b *backups) judge(ctx context.Context, log []revlog.Entry) (err error) {
	if b == nil {
		return nil
	}
	for _, file := range b.files {
		if jerr := judgeBackup(ctx, file, log); jerr != nil {
			err = errors.Join(err, fmt.Errorf("backups: %w", jerr))
		}
		b.w.seen.note("backups: whole")
		if file.rev != 0 {
			b.w.seen.note("backups: of a revision")
		}
	}
	return err
}

func judgeBackup(ctx context.Context, b taken, log []revlog.Entry) error {
	file := filepath.Join(os.TempDir(), backupFile)
	if err := os.WriteFile(file, b.file, 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	r, err := snapshot.Open(ctx, file, false)
	if err != nil {
		return err
	}
	defer r.Close()
	if b.rev != 0 && r.Revision != b.rev {
		return fmt.Errorf("the snapshot of revision %d is of %d", b.rev, r.Revision)
	}
	got, want := account{compact: r.Compact}, account{compact: r.Compact}
	err = r.Events(ctx, func(_ int64, e *revlog.Event) error {
		got.add(e)
		return nil
	})
	if err != nil {
		return err
	}
	want.addAll(log, r.Revision)
	return errors.Join(
		got.then.compare(want.then, r.Compact), got.now.compare(want.now, r.Revision),
		got.compareHistory(want, r.Revision))
}

// account is what a snapshot tells, or should: the keys at the compact revision and now, and the history between.
type account struct {
	compact   int64
	then, now state
	history   []string
}

func (a *account) add(e *revlog.Event) {
	if a.now == nil {
		a.then, a.now = state{}, state{}
	}
	a.now.apply(e)
	if e.KV.Mod <= a.compact {
		a.then.apply(e)
	} else {
		a.history = append(a.history, describe(e))
	}
}

// addAll adds what a log has up to a revision.
func (a *account) addAll(log []revlog.Entry, upTo int64) {
	for i := range log {
		for j := range log[i].Events {
			if e := &log[i].Events[j]; log[i].Rev <= upTo {
				e.KV.Mod = log[i].Rev
				a.add(e)
			}
		}
	}
}

func (a *account) compareHistory(want account, rev int64) error {
	for i := range max(len(a.history), len(want.history)) {
		if i >= len(a.history) || i >= len(want.history) || a.history[i] != want.history[i] {
			return fmt.Errorf("revision %d: %d events since %d, of which the %dth is not that of the log's %d",
				rev, len(a.history), a.compact, i+1, len(want.history))
		}
	}
	return nil
}

// state is the keys that there are, each with what it has.
type state map[string]string

func (s state) compare(want state, rev int64) (err error) {
	for key, kv := range want {
		if kv != s[key] {
			err = errors.Join(err, fmt.Errorf("at revision %d %q is %s, and was %s", rev, key, s[key], kv))
		}
	}
	if len(s) != len(want) {
		err = errors.Join(err, fmt.Errorf("at revision %d there are %d keys, and there were %d", rev, len(s),
			len(want)))
	}
	return err
}

func (s state) apply(e *revlog.Event) {
	if e.Delete {
		delete(s, string(e.KV.Key))
		return
	}
	s[string(e.KV.Key)] = describe(e)
}

// describe is all of an event that a snapshot keeps.
func describe(e *revlog.Event) string {
	if e.Delete {
		return fmt.Sprintf("%q deleted at %d", e.KV.Key, e.KV.Mod)
	}
	return describeKV(&e.KV)
}

func describeKV(kv *revlog.KV) string {
	return fmt.Sprintf("%q=%x create %d, mod %d, version %d, lease %x", kv.Key, kv.Value, kv.Create,
		kv.Mod, kv.Version, kv.Lease)
}
