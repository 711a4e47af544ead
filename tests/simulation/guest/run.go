//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.uber.org/zap"
)

const (
	// rate is of a client's requests, by second.
	rate = 20
	// linearizationTimeout bounds porcupine's search, by the simulation's clock, which hardly goes on meanwhile.
	linearizationTimeout = time.Minute
	// liveWithin is how soon after the last fault every request succeeds, every watcher is at the head and every lease
	// that nobody keeps alive has ended.
	liveWithin = time.Minute
	leaseTTL   = 3 // seconds, at most
	// quietTime is how long nobody writes before the rows are checked.
	quietTime = time.Second
)

// run is the whole run; its error is what the judges say.
func (w *world) run(ctx context.Context) error {
	if err := w.build(); err != nil {
		return err
	}
	w.tracef("plan", "seed %d, %+v, database: conflict %.3f, unknown %.3f and %.3f, too old %.4f", w.seed, w.c,
		w.days.Conflict, w.days.UnknownLost, w.days.UnknownCommitted, w.days.TooOld)
	if err := w.createOld(ctx); err != nil {
		return fmt.Errorf("keyspace of an earlier release: %w", err)
	}
	if err := w.start(ctx, kinds...); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := w.createKeyspaces(ctx); err != nil {
		return fmt.Errorf("keyspaces: %w", err)
	}
	time.Sleep(w.idle)
	traffic, err := w.startTraffic(ctx)
	if err != nil {
		return err
	}
	set := w.saveLater()
	lives, err := w.startLives(ctx)
	if err != nil {
		return err
	}
	others, err := w.startOthers(ctx)
	if err != nil {
		return err
	}
	err = together(ctx, w.inject, w.rollOut)
	w.calmed.Store(true)
	w.tracef("plan", "all faults are over")
	err = errors.Join(err, together(ctx, w.judgeLiveness, others.users.judge, others.counted.judge, others.backups.stop,
		others.archive.stop, others.move.judge, w.judgeRolledOut,
		func(ctx context.Context) error { return judgeLimited(ctx, others.limited) }))
	h, stopErr := w.stopTraffic(ctx, traffic)
	err = errors.Join(err, stopErr, together(ctx,
		// Without traffic: the judges wait for long.
		func(ctx context.Context) error { return w.judgeLives(ctx, lives) },
		func(ctx context.Context) error {
			if traffic == nil || stopErr != nil {
				return nil
			}
			return w.judgeHistory(ctx, h, others)
		}, others.counted.judgeRemoved))
	time.Sleep(quietTime)
	for _, name := range w.judged() {
		err = errors.Join(err, w.judgeRows(ctx, name))
	}
	if err == nil {
		err = set.judge(ctx, w)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(append(w.failed, err)...)
}

// together calls all at once, so that one does not wait while another does. The errors are in the order of the calls.
func together(ctx context.Context, calls ...func(context.Context) error) error {
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { errs[i] = call(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// startTraffic starts the clients that read, write and watch; nil: there are none.
func (w *world) startTraffic(ctx context.Context) (*load.Run, error) {
	if w.clients == 0 {
		return nil, nil
	}
	traffic, err := load.Start(in(ctx, w.c.traffic), load.Config{
		Endpoints: w.addrs(outside, w.first()), Failover: true, Profile: w.profile(), Seed: w.seed,
		Clients: w.clients, Watchers: w.watchers, Rate: rate * float64(w.clients), Compact: true, Sparse: true,
		LargeBytes: 20_000,
	})
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return traffic, nil
}

func (w *world) stopTraffic(ctx context.Context, traffic *load.Run) (h load.History, err error) {
	if traffic == nil {
		return h, nil
	}
	h, err = traffic.Stop(in(ctx, w.c.traffic))
	w.tracef("load", "%d answered, %d failed, last revision %d", h.Acked, h.Failed, h.Last)
	return h, err
}

// others are what clients do in keyspaces of their own, and the snapshots.
type others struct {
	users   *users
	limited []*limited
	counted *counted
	backups *backups
	archive *archive
	move    *move
}

func (w *world) startOthers(ctx context.Context) (o others, err error) {
	if o.users, err = w.startUsers(ctx); err != nil {
		return o, fmt.Errorf("users: %w", err)
	}
	if o.limited, err = w.startLimited(ctx); err != nil {
		return o, fmt.Errorf("limits: %w", err)
	}
	if o.counted, err = w.startCounted(ctx); err != nil {
		return o, fmt.Errorf("counts: %w", err)
	}
	if o.backups, err = w.startBackups(ctx); err != nil {
		return o, fmt.Errorf("backups: %w", err)
	}
	if o.archive, err = w.startArchive(ctx); err != nil {
		return o, fmt.Errorf("archive: %w", err)
	}
	if o.move, err = w.startMove(ctx); err != nil {
		return o, fmt.Errorf("migration: %w", err)
	}
	return o, nil
}

// judged are the keyspaces whose rows are judged.
func (w *world) judged() []string {
	names := slices.Clone(w.c.keyspaces)
	if w.plan.users > 0 {
		names = append(names, usersKeyspace)
	}
	if w.plan.counts > 0 && w.c.counted == countedKeyspace {
		names = append(names, countedKeyspace)
	}
	if w.plan.moves {
		names = append(names, movedFrom, movedTo)
	}
	if w.plan.archive && w.clients > 0 {
		names = append(names, restoredKeyspace)
	}
	if w.plan.limited > 0 {
		for _, kind := range w.limits() {
			names = append(names, kind.keyspace())
		}
	}
	return names
}

func (w *world) profile() load.Profile {
	if w.rand("profile").IntN(4) == 0 {
		return load.Kubernetes
	}
	return load.KeyValue
}

// first are the pods that are there from the beginning.
func (w *world) first() (some []*pod) {
	for _, k := range kinds {
		some = append(some, w.of(k)[:w.c.per]...)
	}
	return some
}

// judgeLiveness asks every pod, now that nothing is wrong: each has to answer for each keyspace.
func (w *world) judgeLiveness(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, liveWithin)
	defer cancel()
	for _, p := range w.pods {
		if p.life == nil {
			continue
		}
		cli, err := w.client(w.addrs(outside, []*pod{p})...)
		if err != nil {
			return err
		}
		defer cli.Close()
		for _, name := range w.c.keyspaces {
			err = leases.Retry(in(ctx, name), func(ctx context.Context) error {
				_, err := cli.Get(ctx, "alive")
				return err
			})
			if err != nil {
				return fmt.Errorf("liveness: %s does not answer for keyspace %s within %v after the last fault: %w",
					p.name, name, liveWithin, err)
			}
		}
	}
	return nil
}

// judgeHistory is for linearizability, the guarantees of watches, and the log.
func (w *world) judgeHistory(ctx context.Context, h load.History, o others) error {
	log, err := w.readLog(ctx)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	hist := check.History{History: h}
	if hist.Log, err = check.Complete(h.Events, log); err != nil {
		return err
	}
	backupsErr := errors.Join(o.backups.judge(ctx, hist.Log), o.archive.judge(ctx, hist.Log))
	res, err := check.Run(zap.NewNop(), check.Ranks(hist), linearizationTimeout)
	c := res.Coverage
	w.tracef("judge", "%+v", c)
	for what, n := range map[string]int{
		"read at an old revision": c.OldReads, "lease revoked": c.Revocations, "compaction": c.Compactions,
		"write of unknown outcome": c.Unknown, "watch resumed": c.Resumable, "watch progress": c.Progress,
		"several events of one revision": c.Several, "serializable read": c.Serializable,
	} {
		w.seen.add("history: "+what, n)
	}
	return errors.Join(err, backupsErr)
}

// readLog reads what is left of the log after compactions.
func (w *world) readLog(ctx context.Context) (log []revlog.Entry, err error) {
	ks, err := keyspace.Lookup(ctx, w.db, []byte(engineRoot), w.c.traffic)
	if err != nil {
		return nil, err
	}
	store, err := mvcc.Open(ctx, shared{w.db}, mvcc.Options{Prefix: ks.Prefix, NoRemoval: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return inproc.ReadLog(ctx, store)
}

// judgeRows checks all rows of a keyspace.
func (w *world) judgeRows(ctx context.Context, name string) error {
	ks, err := keyspace.Lookup(ctx, w.db, []byte(engineRoot), name)
	if err != nil {
		return fmt.Errorf("rows of %s: %w", name, err)
	}
	report, err := fsck.Check(ctx, w.db, fsck.Options{Prefix: ks.Prefix})
	if errors.Is(err, fsck.ErrNoKeyspace) { // nobody has ever called it
		return nil
	}
	if err != nil {
		return fmt.Errorf("rows of %s: %w", name, err)
	}
	w.tracef("judge", "fsck of %s: %d keys, %d rows, %d entries at revision %d", name, report.Keys, report.Rows,
		report.Entries, report.Revision)
	for _, f := range report.Findings {
		err = errors.Join(err, fmt.Errorf("rows of %s: %v", name, f))
	}
	return err
}
