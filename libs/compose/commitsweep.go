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

// Times of the sweep of commit rows that pods which have died left in keyspaces that all pods serve.
const (
	// sweepPass is the time between two passes over all keyspaces of a shard. In between those are looked at that had
	// such rows; one that nobody uses, and that no pod has died with, has none.
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
	// found are the rows of the last look, of the keyspaces that had some, or that could not be looked at.
	found map[uint64]map[string][]byte
}

func newCommitSweep(s *keyspaces, shard int) *commitSweep {
	return &commitSweep{
		d: s.joint.d, eng: s.d.Engine, log: s.d.Log, shard: shard, found: make(map[uint64]map[string][]byte),
	}
}

// run sweeps until ctx ends. The first pass is an hour after the pod has got the shard: a start is to cost nothing.
func (w *commitSweep) run(ctx context.Context) {
	for retry.Sleep(ctx, mvcc.CommitsEvery) == nil {
		all := w.passed.IsZero() || time.Since(w.passed) >= sweepPass
		if err := w.look(ctx, all); err != nil && ctx.Err() == nil {
			w.log.Warn("commit rows of former pods could not all be swept, will be tried again",
				"shard", w.shard, "error", err)
		}
	}
}

// look clears the rows that have not changed since the last look, of the keyspaces that had some then, and with all
// takes down those of all others, one that has been deleted meanwhile too: it has none. It goes on after a failure, and
// returns all errors; what has failed is looked at the next time.
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
