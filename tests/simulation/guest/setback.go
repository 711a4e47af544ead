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
	// beforeHubs is a key that is put before there are hubs again.
	beforeHubs = "before/the hubs"
	// putsAfter of valueAfter are more than a hub with little history has in memory. It has no values that are larger.
	putsAfter, valueAfter = 40, 200
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
	saved := slices.Sorted(maps.Keys(want))
	if err := w.startAfterSetBack(ctx, saved); err != nil {
		return fmt.Errorf("set back: %w", err)
	}
	for _, name := range saved {
		if err := w.afterSetBack(in(ctx, name), want[name], seen[name]); err != nil {
			return fmt.Errorf("set back: %s: %w", name, err)
		}
	}
	w.seen.note("set back: served again")
	err = w.judgeLiveness(ctx)
	time.Sleep(quietTime)
	for _, name := range saved {
		err = errors.Join(err, w.judgeRows(ctx, name))
	}
	return err
}

// startAfterSetBack starts all pods again. In some runs each of the keyspaces is written before there are hubs, which
// begin behind what is lost then.
func (w *world) startAfterSetBack(ctx context.Context, keyspaces []string) error {
	if w.rand("restart").IntN(2) == 0 {
		return w.start(ctx, kinds...)
	}
	if err := w.start(ctx, config.KV); err != nil {
		return err
	}
	cli, err := w.client(w.addrs(outside, w.of(config.KV)[:w.c.per])...)
	if err != nil {
		return err
	}
	defer cli.Close()
	for _, name := range keyspaces {
		if _, err := putUnlessFull(in(ctx, name), cli, beforeHubs, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return w.start(ctx, config.WatchHub, config.LeaseKeeper)
}

// putUnlessFull puts a key; nil: the keyspace's limit does not allow it, which is as low as when it was saved.
func putUnlessFull(
	ctx context.Context, cli *clientv3.Client, key, value string,
) (put *clientv3.PutResponse, err error) {
	err = leases.Retry(ctx, func(ctx context.Context) (err error) {
		if put, err = cli.Put(ctx, key, value); isRefusal(err) {
			return nil
		}
		return err
	})
	return put, err
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

// savedKeyspace is what a keyspace had when it was saved: its last revision, and its keys, but for those with leases,
// which end.
type savedKeyspace struct {
	head int64
	keys state
}

// savedContent is what the keyspaces had when they were saved.
func (w *world) savedContent(ctx context.Context, saved memory.State) (map[string]savedKeyspace, error) {
	db := memory.New()
	defer db.Close()
	db.SetBack(saved)
	db.Advance(w.db.Version())
	all := make(map[string]savedKeyspace)
	for _, name := range w.plain() {
		store, err := opened(ctx, db, name)
		if err != nil {
			return nil, err
		}
		if store == nil {
			continue
		}
		k := savedKeyspace{keys: state{}}
		info, err := store.Range(ctx, &mvcc.RangeRequest{Key: []byte{0}, End: []byte{0}},
			func(kv *mvcc.KV) error {
				if kv.Lease == 0 {
					k.keys[string(kv.Key)] = describeKV(kv)
				}
				return nil
			})
		if err = errors.Join(err, store.Close()); err != nil {
			return nil, err
		}
		k.head = info.Rev
		all[name] = k
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
		p.end(l)
		go func() { _ = cli.Close() }() // nobody notices what becomes of it
	}
	return nil
}

// afterSetBack asks the new pods: they have what was saved, and watches from there get what is written now, and nothing
// of what is lost. One of the watches is there before, one comes when hubs do not have all in memory any more.
func (w *world) afterSetBack(ctx context.Context, want savedKeyspace, seen int64) error {
	cli, err := w.client(w.addrs(outside, w.of(config.KV)[:w.c.per])...)
	if err != nil {
		return err
	}
	defer cli.Close()
	watching, stop := context.WithTimeout(ctx, liveWithin)
	defer stop()
	watch := func(from int64) clientv3.WatchChan {
		return cli.Watch(watching, "", clientv3.WithFromKey(), clientv3.WithRev(from))
	}
	first := watch(want.head + 1)
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
		if kv.Lease == 0 && string(kv.Key) != beforeHubs {
			got[string(kv.Key)] = describeKV(&mvcc.KV{
				Key: kv.Key, Value: kv.Value, Create: kv.CreateRevision, Mod: kv.ModRevision, Version: kv.Version,
			})
		}
	}
	if err := got.compare(want.keys, all.Header.Revision); err != nil {
		return err
	}
	var put *clientv3.PutResponse
	for range putsAfter {
		put, err = putUnlessFull(ctx, cli, "after/the restore", strings.Repeat("x", valueAfter))
		if err != nil || put == nil {
			return err
		}
	}
	if put.Header.Revision <= seen {
		return fmt.Errorf("a write has revision %d, and clients have seen %d", put.Header.Revision, seen)
	}
	if err := sawNothingLost(first, want.head, seen, put.Header.Revision); err != nil {
		return fmt.Errorf("a watch from revision %d: %w", want.head+1, err)
	}
	if err := sawNothingLost(watch(want.head), want.head, seen, put.Header.Revision); err != nil {
		return fmt.Errorf("a later watch from revision %d: %w", want.head, err)
	}
	w.seen.note("set back: watched across")
	return nil
}

// sawNothingLost reads a watch until it gets what has a revision. Nothing that it gets may be of what the database had
// after the revision saved, and clients have seen, up to seen.
func sawNothingLost(events clientv3.WatchChan, saved, seen, until int64) error {
	for resp := range events {
		for _, e := range resp.Events {
			switch rev := e.Kv.ModRevision; {
			case rev > saved && rev <= seen:
				return fmt.Errorf("it gets revision %d of %q, which is lost", rev, e.Kv.Key)
			case rev == until:
				return nil
			}
		}
		if resp.Err() != nil {
			return resp.Err()
		}
	}
	return fmt.Errorf("it gets nothing of revision %d within %v", until, liveWithin)
}
