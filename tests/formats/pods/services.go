package main

import (
	"context"
	"log/slog"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/hubcache"
	"github.com/headwaterdb/headwater/libs/compose/shared"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/server"
)

type (
	kind   = compose.Kind
	config = compose.Config
	node   = compose.Node
)

const (
	kv          = compose.KV
	watchHub    = compose.WatchHub
	leaseKeeper = compose.LeaseKeeper
)

func defaultConfig() config { return compose.DefaultConfig() }

func program(k kind, c *config) server.Program { return compose.Program(k, c) }

func start(ctx context.Context, k kind, c config, e engine.Store, log *slog.Logger) (node, error) {
	p := shared.Parts()
	p.Engine, p.OpenHistory, p.Log = e, hubcache.Open, log
	s, err := compose.Start(ctx, k, c, p)
	if err != nil {
		return nil, err // not a node that is not nil
	}
	return s, nil
}
