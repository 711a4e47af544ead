// Package hubcache has the cache of history that a watchhub pod keeps on disk. It is a part from which the pod is
// composed. It is separate from package compose, so that of all pods only watchhub links Pebble.
//
// # Invariants
//
// Those of libs/watch/history.
//
// # Concurrency
//
// See compose.History.
//
// # Testing
//
// tests/pods and tests/cluster test it with whole pods.
package hubcache

import (
	"context"
	"log/slog"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/watch/history"
)

// Open opens the cache in a directory, for the keyspace that identity names, whose log codec decodes. It is a
// compose.Parts.OpenHistory.
func Open(dir string, identity []byte, codec revlog.Codec, log *slog.Logger) (compose.History, error) {
	c, err := history.Open(dir, history.Options{Identity: identity, Codec: codec, Log: log})
	if err != nil {
		return nil, err
	}
	return cache{c}, nil
}

// cache is a history.Cache for the hub's logs.
type cache struct{ *history.Cache }

// Start implements compose.History.
func (c cache) Start(ctx context.Context, log watch.Log, position int64) error {
	return c.Cache.Start(ctx, log, position)
}

// Over implements compose.History.
func (c cache) Over(log watch.Log) watch.Log { return c.Cache.Over(log) }
