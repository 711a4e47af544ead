//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"github.com/headwaterdb/headwater/tests/internal/memory"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// firstVersion is how far the versions of a database are that will be set back: those of a new one stay below.
	firstVersion = 1 << 40
	// versionsMargin is by how much more than it had an operator advances the version.
	versionsMargin = 1_000_000
	// refusedWithin is how long a pod, and a request to it, is waited for that must fail.
	refusedWithin = 2 * time.Second
)

// setBack is a database that is lost, with a backup of some moment of the run: when all has been judged, it is restored
// into a new one, as the operations manual says.
type setBack struct {
	saved memory.State
	done  chan struct{} // closed when it has been saved
}

// saveLater has the database saved at some moment of the run.
func (w *world) saveLater() *setBack {
	if !w.plan.setback {
		return nil
	}
	b := &setBack{done: make(chan struct{})}
	time.AfterFunc(between(w.rand("set back"), w.duration/8, w.duration+time.Second), func() {
		b.saved = w.db.Save()
		w.tracef("set back", "the database is saved")
		close(b.done)
	})
	return b
}

// judge restores: no keyspace is served before the version is advanced. Then all pods serve what was saved, and what
// is written has revisions above all that anybody has seen.
func (b *setBack) judge(ctx context.Context, w *world) error {
	if b == nil {
		return nil
	}
	<-b.done
	seen, err := w.heads(ctx, w.db)
	if err != nil {
		return fmt.Errorf("set back: %w", err)
	}
	want, err := w.savedContent(ctx, b.saved)
	if err != nil {
		return fmt.Errorf("set back: %w", err)
	}
	for _, p := range w.pods {
		if p.life != nil {
			p.kill()
		}
	}
	last := w.db.Version()
	w.db.SetBack(b.saved)
	w.tracef("set back", "the database is restored, with versions from 1 on")
	if err := w.refused(ctx); err != nil {
		return fmt.Errorf("set back: %w", err)
	}
	w.db.Advance(last + versionsMargin)
	w.tracef("set back", "the version is advanced")
	if err := w.startAll(ctx); err != nil {
		return fmt.Errorf("set back: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if err := w.afterSetBack(in(ctx, name), want[name], seen[name]); err != nil {
			return fmt.Errorf("set back: %s: %w", name, err)
		}
	}
	w.seen.note("set back: served again")
	err = w.judgeLiveness(ctx)
	time.Sleep(quietTime)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		err = errors.Join(err, w.judgeRows(ctx, name))
	}
	return err
}

// plain are the keyspaces that clients may read and write without a user: not a migration's target, which may have
// been saved in the middle of a revision.
func (w *world) plain() []string {
	return slices.DeleteFunc(w.judged(), func(name string) bool { return name == usersKeyspace || name == movedTo })
}

// opened returns a keyspace as it is in a database; nil: it is not there, or nobody has ever called it. Then it has no
// revisions yet, and begins with the first where it is called (docs/operations.md, backup and restore).
func opened(ctx context.Context, db *memory.Store, name string) (*mvcc.Store, error) {
	ks, err := keyspace.Lookup(ctx, shared{db}, []byte(engineRoot), name)
	if errors.Is(err, keyspace.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := fsck.Check(ctx, shared{db}, fsck.Options{Prefix: ks.Prefix}); errors.Is(err, fsck.ErrNoKeyspace) {
		return nil, nil
	}
	return mvcc.Open(ctx, shared{db}, mvcc.Options{Prefix: ks.Prefix, NoRemoval: true})
}

// heads are the last revisions of the keyspaces.
func (w *world) heads(ctx context.Context, db *memory.Store) (map[string]int64, error) {
	all := make(map[string]int64)
	for _, name := range w.plain() {
		store, err := opened(ctx, db, name)
		if err != nil {
			return nil, err
		}
		if store == nil {
			continue
		}
		if all[name], err = store.Head(ctx); err != nil {
			return nil, err
		}
		if err := store.Close(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// savedContent is what the keyspaces had when they were saved, but for keys with leases, which end.
func (w *world) savedContent(ctx context.Context, saved memory.State) (map[string]state, error) {
	db := memory.New()
	defer db.Close()
	db.SetBack(saved)
	db.Advance(w.db.Version())
	all := make(map[string]state)
	for _, name := range w.plain() {
		store, err := opened(ctx, db, name)
		if err != nil {
			return nil, err
		}
		if store == nil {
			continue
		}
		all[name] = state{}
		_, err = store.Range(ctx, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}},
			func(kv *mvcc.KV) error {
				if kv.Lease == 0 {
					all[name][string(kv.Key)] = describeKV(kv)
				}
				return nil
			})
		if err = errors.Join(err, store.Close()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// refused starts each pod once: it does not come up, or answers nothing.
func (w *world) refused(ctx context.Context) error {
	for _, p := range w.first() {
		once, cancel := context.WithTimeout(ctx, refusedWithin)
		l, err := p.begin(once)
		if err != nil {
			cancel()
			w.tracef(p.name, "does not start: %v", err)
			if !strings.Contains(err.Error(), mvcc.ErrSetBack.Error()) {
				return fmt.Errorf("%s does not say why it does not start: %w", p.name, err)
			}
			w.seen.note("set back: a pod refuses to start")
			continue
		}
		cli, err := w.client(l.node.URL())
		if err != nil {
			return err
		}
		for _, name := range w.plain() {
			if _, err := cli.Get(in(once, name), "alive"); err == nil {
				return fmt.Errorf("%s answers for %s, although the database's version is below its last revision",
					p.name, name)
			}
		}
		cancel()
		l.gone.Store(true)
		l.view.Kill()
		l.gate.Kill()
		go func() { _ = errors.Join(cli.Close(), l.close()) }() // nobody notices what becomes of it
	}
	return nil
}

// afterSetBack asks the new pods: a watch from behind all that has been seen gets what is written now.
func (w *world) afterSetBack(ctx context.Context, want state, seen int64) error {
	cli, err := w.client(w.addrs(outside, w.of(config.KV)[:w.c.per])...)
	if err != nil {
		return err
	}
	defer cli.Close()
	watch, stop := context.WithTimeout(ctx, liveWithin)
	defer stop()
	events := cli.Watch(watch, "after/", clientv3.WithPrefix(), clientv3.WithRev(seen+1))
	var all *clientv3.GetResponse
	err = leases.Retry(ctx, func(ctx context.Context) (err error) {
		all, err = cli.Get(ctx, "", clientv3.WithFromKey())
		return err
	})
	if err != nil {
		return err
	}
	got := state{}
	for _, kv := range all.Kvs {
		if kv.Lease == 0 {
			got[string(kv.Key)] = describeKV(&mvcc.KV{
				Key: kv.Key, Value: kv.Value, Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version,
			})
		}
	}
	if err := got.compare(want, all.Header.Revision); err != nil {
		return err
	}
	var put *clientv3.PutResponse
	err = leases.Retry(ctx, func(ctx context.Context) (err error) {
		put, err = cli.Put(ctx, "after/the restore", "")
		if isRefusal(err) { // its limit is as low as it was when it was saved
			return nil
		}
		return err
	})
	if err != nil || put == nil {
		return err
	}
	if put.Header.Revision <= seen {
		return fmt.Errorf("a write has revision %d, and clients have seen %d", put.Header.Revision, seen)
	}
	for resp := range events {
		if len(resp.Events) > 0 {
			w.seen.note("set back: watched across")
			return nil
		}
		if resp.Err() != nil {
			return fmt.Errorf("a watch from %d: %w", seen+1, resp.Err())
		}
	}
	return fmt.Errorf("a watch from %d gets nothing of revision %d within %v", seen+1, put.Header.Revision, liveWithin)
}
