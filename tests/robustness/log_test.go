package robustness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/check"
	"github.com/headwaterdb/headwater/tests/internal/inproc"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"github.com/headwaterdb/headwater/tests/internal/pods"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.uber.org/zap"
)

// storeDir is the directory, below its data directory, in which the standalone server keeps the engine's files.
const storeDir = "store"

// headwaterPersisted opens the stopped server's store and rebuilds the persisted requests from the log in it. What
// compaction has removed it takes from what the Recorder saw. All other entries must be the same in both.
func headwaterPersisted(_ *zap.Logger, dataDir string, h load.History) ([]revlog.Entry, []model.EtcdRequest, error) {
	log, err := readLog(context.Background(), filepath.Join(dataDir, storeDir))
	if err != nil {
		return nil, nil, fmt.Errorf("read the server's log: %w", err)
	}
	log, err = check.Complete(h.Events, log)
	return log, check.Requests(log), err
}

// podsPersisted does the same for pods.
func podsPersisted(t *testing.T,
	p pods.Process,
) func(*zap.Logger, string, load.History) ([]revlog.Entry, []model.EtcdRequest, error) {
	return func(_ *zap.Logger, dataDir string, h load.History) ([]revlog.Entry, []model.EtcdRequest, error) {
		e := p.Engine(t, dataDir)
		ks, err := keyspace.Lookup(t.Context(), e, []byte(p.Root(dataDir)), config.DefaultKeyspace)
		if err != nil {
			return nil, nil, err
		}
		log, err := readStore(t.Context(), e, mvcc.Options{Prefix: ks.Prefix, NoRemoval: true})
		if err != nil {
			return nil, nil, fmt.Errorf("read the pods' log: %w", err)
		}
		log, err = check.Complete(h.Events, log)
		return log, nil, err // Ranks makes the persisted requests
	}
}

func readLog(ctx context.Context, dir string) (log []revlog.Entry, err error) {
	db, err := pebble.Open(dir, pebble.Options{ReserveBytes: -1, BallastBytes: -1, CloseWithin: time.Minute})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return readStore(ctx, db, mvcc.Options{})
}

func readStore(ctx context.Context, e engine.Store, o mvcc.Options) (log []revlog.Entry, err error) {
	store, err := mvcc.Open(ctx, e, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return inproc.ReadLog(ctx, store)
}
