package main

import (
	"context"
	"log/slog"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/compose/hubcache"
	"github.com/headwaterdb/headwater/libs/compose/shared"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
)

type (
	kind     = config.Kind
	settings = config.Config
	node     = compose.Node
)

const (
	kv          = config.KV
	watchHub    = config.WatchHub
	leaseKeeper = config.LeaseKeeper
)

func parse(k kind, args []string) (settings, error) {
	p, err := k.Parse(args, nil)
	return p.Config, err
}

func start(ctx context.Context, k kind, c settings, e engine.Store, log *slog.Logger) (node, error) {
	p := shared.Parts()
	p.Engine, p.OpenHistory, p.Log = e, hubcache.Open, log
	s, err := compose.Start(ctx, k, c, p)
	if err != nil {
		return nil, err // a typed nil in the interface would not be equal to nil
	}
	return s, nil
}
