//go:build foundationdb

package testengine

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/foundationdb"
)

// clearTimeout bounds the clearing of a root, which is one small commit.
const clearTimeout = 30 * time.Second

// errPrepare is why the client library could not be set up.
var errPrepare error

func init() {
	cluster = &backend{open: openAt, clear: clearAt}
	if Chosen() != FoundationDB {
		return
	}
	// The library's thread is started here, for a bubble of testing/synctest would wait for its end.
	s, err := foundationdb.Open(foundationdb.Options{ClusterFile: os.Getenv(ClusterEnv)})
	if err == nil {
		err = s.Close()
	}
	errPrepare = err
}

func openAt(root string) (engine.Store, error) {
	if errPrepare != nil {
		return nil, errPrepare
	}
	return foundationdb.Open(foundationdb.Options{ClusterFile: os.Getenv(ClusterEnv), Root: []byte(root)})
}

// clearAt removes every row under a root. A clear reads nothing, so that it may be repeated whatever became of an
// attempt.
func clearAt(root string) error {
	s, err := openAt(root)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), clearTimeout)
	defer cancel()
	for {
		if err = clearOnce(ctx, s); err == nil || ctx.Err() != nil {
			return errors.Join(err, s.Close())
		}
	}
}

func clearOnce(ctx context.Context, s engine.Store) error {
	x, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	x.ClearRange(nil, nil)
	p, err := x.Commit(ctx)
	if err == nil {
		_, err = p.Wait(ctx)
	}
	return err
}
