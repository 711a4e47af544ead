package main

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwaterdb/headwater/libs/bus"
	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/porttest"
)

// deploymentScene starts a pod of each kind on one store. It writes down the metrics of each, as kv, watchhub and
// leasekeeper, before and after load and leases.
func deploymentScene(ctx context.Context, s stage) (err error) {
	db, err := pebble.Open("store", pebble.Options{
		FS: vfs.NewMem(), ReserveBytes: -1, BallastBytes: -1, Sparse: true, NotPipelined: true, FDBLimits: true,
	})
	if err != nil {
		return err
	}
	defer db.Close()
	b := bus.NewLocal()
	defer b.Close()
	dir, err := os.MkdirTemp("", "scenes-pods-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	at, err := addresses()
	if err != nil {
		return err
	}
	type result struct {
		pod *compose.Server
		err error
	}
	started := make(chan result, len(config.Pods))
	for _, k := range config.Pods {
		c := config.Default(k)
		c.Name, c.DataDir = string(k), dir
		c.ListenClientURLs, c.ExtensiveMetrics = []string{"http://" + at[k]}, true
		c.KVEndpoints, c.WatchHubEndpoints = []string{at[config.KV]}, []string{at[config.WatchHub]}
		c.LeaseKeeperEndpoints = []string{at[config.LeaseKeeper]}
		go func() {
			pod, err := compose.Start(ctx, k, c, compose.Parts{Engine: db, Bus: b, Log: slog.New(slog.DiscardHandler)})
			started <- result{pod, err}
		}()
	}
	var pods []*compose.Server
	for range config.Pods {
		r := <-started
		if err = errors.Join(err, r.err); r.pod != nil {
			pods = append(pods, r.pod)
		}
	}
	if err == nil {
		err = s.playPods(ctx, at)
	}
	for _, p := range pods {
		err = errors.Join(err, p.Close())
	}
	return err
}

// addresses returns addresses that are free until the process ends, one for each kind of pod.
func addresses() (map[config.Kind]string, error) {
	at := make(map[config.Kind]string)
	for _, k := range config.Pods {
		addr, _, err := porttest.Reserve()
		if err != nil {
			return nil, err
		}
		at[k] = addr
	}
	return at, nil
}

// playPods writes down the metrics of all pods, before and after the load.
func (s stage) playPods(ctx context.Context, at map[config.Kind]string) error {
	writeAll := func(when string) (err error) {
		for k, a := range at {
			err = errors.Join(err, s.write(ctx, string(k)+"-load-"+when, "http://"+a))
		}
		return err
	}
	if err := writeAll("0"); err != nil {
		return err
	}
	url := "http://" + at[config.KV]
	for _, do := range []func(context.Context, string) error{load, failing} {
		if err := do(ctx, url); err != nil {
			return err
		}
	}
	return writeAll("1")
}
