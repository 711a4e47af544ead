package compose

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/retry"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
)

// Times of the sweep of commit rows. Pods that have died leave them in keyspaces that all pods serve.
const (
	// sweepPass is the time between two passes over all keyspaces of a shard. Between them only those are looked at
	// that had such rows. A keyspace that nobody uses, and with which no pod has died, has none.
	sweepPass = 12 * time.Hour
	// sweepPause is the time between two keyspaces.
	sweepPause = 10 * time.Millisecond
)

// commitSweep sweeps the keyspaces of a shard. It belongs to one goroutine.
type commitSweep struct {
	d      keyspace.Deployment
	eng    engine.Store
	log    *slog.Logger
	shard  int
	passed time.Time // of the last pass; zero: there was none
	// found are the rows that the last look has found, by keyspace. A keyspace that could not be read is also in it.
	found map[uint64]map[string][]byte
}

func newCommitSweep(s *keyspaces, shard int) *commitSweep {
	return &commitSweep{
		d: s.joint.d, eng: s.d.Engine, log: s.d.Log, shard: shard, found: make(map[uint64]map[string][]byte),
	}
}

// run sweeps until ctx ends. The first pass is an hour after the pod has got the shard, so that a start costs nothing.
func (w *commitSweep) run(ctx context.Context) {
	for retry.Sleep(ctx, mvcc.CommitsEvery) == nil {
		all := w.passed.IsZero() || time.Since(w.passed) >= sweepPass
		if err := w.look(ctx, all); err != nil && ctx.Err() == nil {
			w.log.Warn("commit rows of former pods could not all be swept, will be tried again",
				"shard", w.shard, "error", err)
		}
	}
}

// look clears the rows that have not changed since the last look, in the keyspaces that had some then. With all it also
// records the rows of all other keyspaces. A keyspace that has been deleted since has none. After a failure it goes on,
// and returns all errors; the next look tries again what has failed.
func (w *commitSweep) look(ctx context.Context, all bool) (failed error) {
	last := w.found
	ids := make([]uint64, 0, len(last))
	for id := range last {
		ids = append(ids, id)
	}
	if all {
		var err error
		if ids, _, err = w.d.IDs(ctx, w.eng, w.d.Heads(w.shard)); err != nil {
			return err
		}
		w.passed = time.Now()
	}
	w.found = make(map[uint64]map[string][]byte)
	for _, id := range ids {
		if retry.Sleep(ctx, sweepPause) != nil {
			return ctx.Err()
		}
		rows, err := mvcc.SweepCommits(ctx, w.eng, w.d.Rows(id), last[id])
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
			w.found[id] = last[id]
		case len(rows) > 0:
			w.found[id] = rows
		}
	}
	return failed
}
