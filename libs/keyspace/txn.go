package keyspace

import (
	"context"
	"errors"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
)

// again says whether a transaction that failed with err is to be run again. All of them are idempotent.
func again(err error) bool { return engine.ClassOf(err).RerunIdempotent() }

// attempts calls f until it succeeds or fails with a final error.
func attempts(ctx context.Context, f func() error) error {
	p := retry.Policy{Min: pauseMin, Max: pauseMax, Attempts: attemptsMax}
	return p.Do(ctx, again, f)
}

// errDone ends an update that finds its work already done. The update must have changed nothing. What it has read is
// durable when update returns.
var errDone = errors.New("keyspace: done")

// update runs f in a transaction. f may run several times, even after an attempt that has been committed.
func update(ctx context.Context, eng engine.Store, f func(engine.Txn) error) error {
	return updateKnowing(ctx, eng, func(txn engine.Txn, _ bool) error { return f(txn) })
}

// updateKnowing is update for an f that must find out whether an earlier attempt has been committed. doubt says that
// one may have been.
func updateKnowing(ctx context.Context, eng engine.Store, f func(txn engine.Txn, doubt bool) error) error {
	doubt := false
	return attempts(ctx, func() (err error) {
		defer func() { doubt = doubt || errors.Is(err, engine.ErrUnknownOutcome) }()
		txn, err := eng.Begin(ctx)
		if err != nil {
			return err
		}
		defer txn.Discard()
		if err := f(txn, doubt); err != nil && !errors.Is(err, errDone) {
			return err
		}
		p, err := txn.Commit(ctx)
		if err != nil {
			return err
		}
		_, err = p.Wait(ctx)
		return err
	})
}

// view runs f with a snapshot. If the snapshot has become too old, it runs f again with a newer one.
func view(ctx context.Context, eng engine.Store, f func(engine.Reader) error) error {
	return attempts(ctx, func() error {
		snap, err := eng.Snapshot(ctx)
		if err != nil {
			return err
		}
		defer snap.Close()
		return f(snap)
	})
}

// scan calls f for each row of a range.
func scan(ctx context.Context, r engine.Reader, q engine.Range, f func(key, value []byte) error) (err error) {
	it := r.Scan(ctx, q)
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.Next() {
		if err := f(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}
