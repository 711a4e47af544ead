package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/embedded"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/porttest"
)

// headwaterScenes plays the scenes on standalone servers: one with a quota, as etcd has one, and one without.
func headwaterScenes(ctx context.Context, s stage) error {
	for name, quota := range map[string]int64{"headwater": 2 << 30, "unbounded": 0} {
		if err := standalone(ctx, s, name, quota); err != nil {
			return err
		}
	}
	return nil
}

func standalone(ctx context.Context, s stage, name string, quota int64) error {
	dir, err := os.MkdirTemp("", "scenes-headwater-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c := config.Default(config.Standalone)
	c.DataDir, c.ListenClientURLs = dir, []string{"http://127.0.0.1:0"}
	c.QuotaBackendBytes, c.ExtensiveMetrics = quota, true
	c.MetricsKeyspaces.Top = 5
	n, err := compose.Start(ctx, config.Standalone, c, embedded.Parts(0))
	if err != nil {
		return err
	}
	return errors.Join(playAll(ctx, s, name, n.URL()), n.Close())
}

// away is an engine that can become unavailable.
type away struct {
	engine.Store
	gone atomic.Bool
}

// Begin implements engine.Store.
func (a *away) Begin(ctx context.Context) (engine.Txn, error) {
	if a.gone.Load() {
		return nil, engine.ErrUnavailable
	}
	return a.Store.Begin(ctx)
}

// Snapshot implements engine.Store.
func (a *away) Snapshot(ctx context.Context) (engine.Snapshot, error) {
	if a.gone.Load() {
		return nil, engine.ErrUnavailable
	}
	return a.Store.Snapshot(ctx)
}

// nobody is an address where nothing listens. Relays notice that, and the pod starts all the same.
const nobody = "127.0.0.1:1"

// podScenes plays a kv pod that waits for its store and loses it later.
func podScenes(ctx context.Context, s stage) error {
	db, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, Sparse: true, NotPipelined: true, FDBLimits: true,
	})
	if err != nil {
		return err
	}
	defer db.Close()
	store := &away{Store: db}
	store.gone.Store(true)
	addr, release, err := porttest.Reserve() // a pod that is starting does not tell its address yet
	if err != nil {
		return err
	}
	defer release()
	at := "http://" + addr
	c := config.Default(config.KV)
	c.ListenClientURLs, c.ExtensiveMetrics = []string{at}, true
	c.WatchHubEndpoints, c.LeaseKeeperEndpoints = []string{nobody}, []string{nobody}
	type result struct {
		pod *compose.Server
		err error
	}
	started := make(chan result, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		pod, err := compose.Start(ctx, config.KV, c, compose.Parts{Engine: store, Log: slog.New(slog.DiscardHandler)})
		started <- result{pod, err}
	}()
	err = leader(ctx, at, false)
	if err == nil {
		err = s.play(ctx, "waiting", "away", at, idle)
	}
	store.gone.Store(false)
	if err != nil {
		cancel()
	}
	r := <-started
	if err = errors.Join(err, r.err); err != nil || r.pod == nil {
		return err
	}
	return errors.Join(podAway(ctx, s, at, store), r.pod.Close())
}

func podAway(ctx context.Context, s stage, at string, store *away) error {
	if err := leader(ctx, at, true); err != nil {
		return err
	}
	store.gone.Store(true)
	defer store.gone.Store(false)
	if err := leader(ctx, at, false); err != nil {
		return err
	}
	return s.play(ctx, "pod", "away", at, refused)
}
