package keyspace

import (
	"bytes"
	"context"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// clearRows bounds the rows that one transaction of Clear removes.
const clearRows = 10_000

// Deleted returns the deleted keyspaces below root in the order of their ids: those after an id, and no more than
// limit; 0: all. Each has the name that it had. Errors: ErrFormat, the engine's.
func Deleted(ctx context.Context, eng engine.Store, root []byte, after uint64, limit int) ([]Info, error) {
	t := table{root}
	var all []Info
	for {
		var page []*keyspacev1.Keyspace
		most := listMax
		if limit > 0 {
			most = min(listMax, limit-len(all))
		}
		err := view(ctx, eng, func(r engine.Reader) (err error) {
			page, err = t.deletedFrom(ctx, r, t.deleted(after+1), t.key(0, 'x'+1), most)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, row := range page {
			all = append(all, t.info(row.GetName(), row))
			after = row.GetId()
		}
		if len(page) < most || len(all) == limit {
			return all, nil
		}
	}
}

// Clear removes the rows of all deleted keyspaces below root, clearRows per transaction. paced, which may be nil, is
// called after each transaction with the number of rows that it has removed. It may wait. Its error ends Clear; the
// next call goes on there. Several processes may run Clear at the same time, but one is enough. Errors: paced's,
// ErrFormat, the engine's.
func Clear(ctx context.Context, eng engine.Store, root []byte, paced func(rows int) error) error {
	t := table{root}
	gone, err := Deleted(ctx, eng, root, 0, 0)
	if err != nil {
		return err
	}
	for _, info := range gone {
		if info.Row.GetState() != keyspacev1.State_STATE_DELETING {
			continue
		}
		for _, r := range t.ranges(info.Row) {
			if err := clearRange(ctx, eng, r[0], r[1], paced); err != nil {
				return err
			}
		}
		if err := t.cleared(ctx, eng, info.Row); err != nil {
			return err
		}
	}
	return nil
}

// clearRange removes the rows of a range.
func clearRange(ctx context.Context, eng engine.Store, begin, end []byte, paced func(rows int) error) error {
	for {
		n := 0
		err := update(ctx, eng, func(txn engine.Txn) error {
			n = 0
			last := end
			// A pod that still writes here has not noticed the deletion. Sweep removes what it adds.
			q := engine.Range{Begin: begin, End: end, Limit: clearRows, KeysOnly: true, NoConflict: true}
			if err := scan(ctx, txn, q, func(key, _ []byte) error {
				if n++; n == clearRows {
					last = append(bytes.Clone(key), 0)
				}
				return nil
			}); err != nil {
				return err
			}
			shrinks(txn)
			txn.ClearRange(begin, last)
			return nil
		})
		if err == nil && paced != nil && n > 0 {
			err = paced(n)
		}
		if err != nil || n < clearRows {
			return err
		}
	}
}

// cleared notes that the rows of a deleted keyspace are removed.
func (t table) cleared(ctx context.Context, eng engine.Store, row *keyspacev1.Keyspace) error {
	return update(ctx, eng, func(txn engine.Txn) error {
		row.State = keyspacev1.State_STATE_CLEARED
		b, err := encode(row)
		if err != nil {
			return err
		}
		shrinks(txn)
		txn.Set(t.deleted(row.GetId()), b)
		t.changed(txn)
		return nil
	})
}

// shrinks marks a transaction that frees space in the end.
func shrinks(txn engine.Txn) {
	if s, ok := txn.(engine.Shrinker); ok {
		s.Shrinks()
	}
}

// tendPause is the shortest time between two looks of Tend for something to clear.
const tendPause = time.Second

// Tend clears deleted keyspaces below root until ctx ends, and calls Sweep once. paced is as for Clear. It returns the
// error of ctx. It passes other errors to report, and tries again. While nothing is deleted, it costs one wait for the
// table to change.
func Tend(ctx context.Context, eng engine.Store, root []byte, paced func(rows int) error, report func(error)) error {
	swept := false
	for {
		was, err := Version(ctx, eng, root)
		if err == nil {
			err = Clear(ctx, eng, root, paced)
		}
		if err == nil && !swept {
			err = Sweep(ctx, eng, root)
			swept = err == nil
		}
		if err == nil {
			err = WaitChanged(ctx, eng, root, was)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			report(err)
		}
		_ = retry.Sleep(ctx, tendPause) // the next step checks ctx
	}
}
