//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

const (
	// rollPause is how often a roll-out looks at a pod that a fault is about.
	rollPause = 50 * time.Millisecond
	// replaceableWithin is how long that may take: faults of a pod follow one another.
	replaceableWithin = 2 * liveWithin
)

// rolledOut is what a keyspace has after the roll-out: what pods can activate in one that an earlier release has made.
const rolledOut = mvcc.FeaturesAll &^ mvcc.FeatureSizes

// createOld makes the pods' own keyspace as a release has made it that knew none of the features.
func (w *world) createOld(ctx context.Context) error {
	if !w.plan.old {
		return nil
	}
	ks, err := keyspace.Open(ctx, w.db, []byte(engineRoot), keyspaceName)
	if err != nil {
		return err
	}
	store, err := mvcc.Open(ctx, shared{w.db}, mvcc.Options{Prefix: ks.Prefix, NoFeatures: true, NoRemoval: true})
	if err != nil {
		return err
	}
	return store.Close()
}

// rollOut replaces the pods one after the other while all else happens. From some pod on the kv pods are started with
// --activate-features=all, one of them in any case, so that for a while pods write the rows of before that have not
// heard of the activation.
func (w *world) rollOut(ctx context.Context) error {
	if !w.plan.old {
		return nil
	}
	r := w.rand("roll-out")
	time.Sleep(between(r, 0, w.duration))
	pods := w.first()
	r.Shuffle(len(pods), func(i, j int) { pods[i], pods[j] = pods[j], pods[i] })
	from := r.IntN(len(pods))
	for i, p := range pods {
		w.activate.Store(i >= from)
		if err := w.replace(ctx, p); err != nil {
			return err
		}
		time.Sleep(between(r, 0, 4*rollPause))
	}
	w.activate.Store(true)
	kv := w.of(config.KV)[:w.c.per]
	return w.replace(ctx, kv[r.IntN(len(kv))])
}

// replace drains a pod and starts it again, when no fault is about it.
func (w *world) replace(ctx context.Context, p *pod) error {
	for until := time.Now().Add(replaceableWithin); p.busy || p.life == nil; time.Sleep(rollPause) {
		if time.Now().After(until) {
			return fmt.Errorf("%s cannot be replaced: it is not up within %v", p.name, replaceableWithin)
		}
	}
	p.busy = true
	defer func() { p.busy = false }()
	w.tracef(p.name, "is replaced")
	if err := p.drain(ctx); err != nil {
		return fmt.Errorf("drain of %s: %w", p.name, err)
	}
	return p.start(ctx)
}

// judgeRolledOut says whether the features are there.
func (w *world) judgeRolledOut(ctx context.Context) error {
	if !w.plan.old {
		return nil
	}
	store, err := opened(ctx, w.db, keyspaceName)
	if err != nil {
		return fmt.Errorf("roll-out: %w", err)
	}
	f := store.Features()
	if !f.Has(rolledOut) {
		err = fmt.Errorf("roll-out: the keyspace has %v after the activation of %v", f, rolledOut)
	}
	w.seen.note("roll-out: features activated")
	return errors.Join(err, store.Close())
}
