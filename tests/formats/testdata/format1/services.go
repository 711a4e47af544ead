// Command pods, as the release of format 1 builds it. This file replaces services.go of tests/formats/pods; the rest of
// the command is there.
package main

import (
	"context"
	"log/slog"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/pod"
	kvnode "github.com/headwaterdb/headwater/services/kv/node"
	leasekeeper "github.com/headwaterdb/headwater/services/leasekeeper/node"
	watchhub "github.com/headwaterdb/headwater/services/watchhub/node"
)

type (
	kind     = pod.Kind
	settings = pod.Config
	node     = pod.Node
)

const (
	kv          = pod.KV
	watchHub    = pod.WatchHub
	leaseKeeper = pod.LeaseKeeper
)

func parse(k kind, args []string) (settings, error) {
	c := pod.DefaultConfig()
	p, err := pod.Program(k, &c).Parse(args, nil)
	c.Config = p.Config
	return c, err
}

func start(ctx context.Context, k kind, c settings, e engine.Store, log *slog.Logger) (node, error) {
	d := pod.Deps{Engine: e, Log: log}
	switch k {
	case kv:
		return notNil(kvnode.Start(ctx, c, d))
	case watchHub:
		return notNil(watchhub.Start(ctx, c, d))
	}
	return notNil(leasekeeper.Start(ctx, c, d))
}

// notNil returns n as an interface, which is nil if there is no node.
func notNil[N node](n N, err error) (node, error) {
	if err != nil {
		return nil, err
	}
	return n, nil
}
