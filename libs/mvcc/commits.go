package mvcc

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
)

// Commit rows of writers that are gone are found by watching them. If nobody writes a row between two looks, its lane
// is idle or gone. An idle lane does not need its row, because for it a missing row means the same as an older sequence
// (I5). commitsEvery is far above the time in which a lane reads its row back.
const (
	commitsEvery = time.Hour
	commitsMax   = 10_000 // rows looked at each time
)

// clearCommits deletes the commit rows and the holds of former runs. Only an embedded engine's store is certainly the
// only writer. The rows do no harm, so on a full disk they stay until the next start.
func (s *Store) clearCommits(ctx context.Context) error {
	if !s.limits.Dense {
		return nil
	}
	err := s.update(ctx, func(txn engine.Txn) error {
		hold := s.rows.meta(metaHold)
		found := false
		for _, r := range []engine.Range{s.rows.tableRange(tableCommit), {Begin: hold, End: prefixEnd(hold)}} {
			some, err := anyRow(ctx, txn, r)
			if err != nil && !isDamage(err) { // rows that cannot be read can still be cleared
				return err
			}
			if some || err != nil {
				found = true
				txn.ClearRange(r.Begin, r.End)
			}
		}
		if !found {
			return errNothing
		}
		return nil
	})
	if errors.Is(err, ErrNoSpace) || errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// anyRow says whether a range has a row.
func anyRow(ctx context.Context, r engine.Reader, rng engine.Range) (bool, error) {
	rng.Limit, rng.KeysOnly = 1, true
	it := r.Scan(ctx, rng)
	defer it.Close()
	return it.Next(), it.Err()
}

// sweepOldCommits deletes the commit rows of writers that are gone, until ctx ends.
func (s *Store) sweepOldCommits(ctx context.Context) {
	t := time.NewTicker(commitsEvery)
	defer t.Stop()
	var last map[string][]byte
	for {
		now, err := s.sweepUnchanged(ctx, last)
		if err == nil {
			last = now
		} else if ctx.Err() == nil {
			s.o.Logger.Warn("commit rows of former processes could not be swept, will be tried again", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// sweepUnchanged deletes the commit rows that have not changed since last, and returns the others.
func (s *Store) sweepUnchanged(ctx context.Context, last map[string][]byte) (kept map[string][]byte, err error) {
	err = s.update(ctx, func(txn engine.Txn) (err error) {
		kept, err = sweepRows(ctx, txn, s.rows, last)
		return err
	})
	return kept, err
}

// CommitsEvery is the time that should pass between two calls of SweepCommits.
const CommitsEvery = commitsEvery

// SweepCommits deletes the commit rows of the keyspace below prefix that have not changed since last, and returns the
// others. last is the result of a call at least CommitsEvery ago. Writers that have died have left such rows. The
// keyspace need not be open, and may be written in the meantime. SweepCommits is for keyspaces with Options.Beside,
// whose Stores clear their own rows when they are closed. Errors: the engine's.
func SweepCommits(
	ctx context.Context, eng engine.Store, prefix []byte, last map[string][]byte,
) (kept map[string][]byte, err error) {
	eng = engine.Domain(eng, prefix)
	again := func(err error) bool { return engine.ClassOf(err).RerunIdempotent() }
	err = updates.Do(ctx, again, func() error {
		txn, err := eng.Begin(ctx)
		return finishUpdate(ctx, txn, func(txn engine.Txn) (err error) {
			kept, err = sweepRows(ctx, txn, rows{prefix: prefix}, last)
			if err == nil && len(kept) == 0 && len(last) == 0 {
				return errNothing
			}
			return err
		}, err)
	})
	if errors.Is(err, errNothing) {
		err = nil
	}
	return kept, err
}

// sweepRows is sweepUnchanged in one transaction.
func sweepRows(ctx context.Context, txn engine.Txn, r rows, last map[string][]byte) (map[string][]byte, error) {
	kept := map[string][]byte{}
	all := r.tableRange(tableCommit)
	all.Limit, all.NoConflict = commitsMax, true
	it := txn.Scan(ctx, all)
	defer it.Close()
	var idle [][]byte
	for it.Next() {
		if was, ok := last[string(it.Key())]; ok && bytes.Equal(was, it.Value()) {
			idle = append(idle, bytes.Clone(it.Key()))
		} else {
			kept[string(it.Key())] = bytes.Clone(it.Value())
		}
	}
	for _, row := range idle {
		txn.AddReadConflict(row, append(row[:len(row):len(row)], 0))
		txn.Clear(row)
	}
	return kept, it.Err()
}
