package compose

import (
	"context"
	"log/slog"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/libs/watch"
	"github.com/headwaterdb/headwater/libs/watch/history"
)

// openTestHistory is hubcache.Open, which imports this package.
func openTestHistory(dir string, identity []byte, codec revlog.Codec, log *slog.Logger) (History, error) {
	c, err := history.Open(dir, history.Options{Identity: identity, Codec: codec, Log: log})
	if err != nil {
		return nil, err
	}
	return testHistory{c}, nil
}

type testHistory struct{ *history.Cache }

func (h testHistory) Start(ctx context.Context, log watch.Log, position int64) error {
	return h.Cache.Start(ctx, log, position)
}

func (h testHistory) Over(log watch.Log) watch.Log { return h.Cache.Over(log) }
