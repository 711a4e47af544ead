// Package embedded has the store of a standalone server: the Pebble engine in a directory of its own. It is a part from
// which a server is composed. It is separate from package compose, so that only the standalone server links the engine.
//
// # Invariants
//
//   - The directory of an etcd is never written to.
//   - Only one process at a time uses a data directory.
//
// # Concurrency
//
// As the engine.
//
// # Testing
//
// services/standalone tests it through the binary.
package embedded

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/headwaterdb/headwater/libs/compose"
	"github.com/headwaterdb/headwater/libs/config"
	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/server"
	"github.com/headwaterdb/headwater/libs/snapshot/datadir"
)

// Parts returns the part that opens the store in --data-dir. closeWithin is pebble.Options.CloseWithin: how long the
// end of the store waits for the disk; 0 is the default.
func Parts(closeWithin time.Duration) compose.Parts {
	return compose.Parts{OpenEngine: func(c config.Config, o compose.EngineOptions) (engine.Store, error) {
		return open(c, o, closeWithin)
	}}
}

// store is an engine with its lock, and with what the server shows about it.
type store struct {
	*pebble.Store
	disk *server.DiskMetrics
	lock io.Closer // on the data directory
}

func open(c config.Config, o compose.EngineOptions, closeWithin time.Duration) (_ engine.Store, err error) {
	if err := datadir.Check(c.Dir()); err != nil {
		return nil, err
	}
	warnReadable(o.Log, c.Dir())
	// The engine locks its own directory. This lock keeps a second server out even if somebody has removed that
	// directory.
	if err := os.MkdirAll(c.Dir(), 0o700); err != nil {
		return nil, fmt.Errorf("data directory cannot be created: %w", err)
	}
	s := store{disk: server.NewDiskMetrics()}
	if s.lock, err = pebble.LockDir(c.Dir()); err != nil {
		return nil, err
	}
	activate := c.ActivateFeatures.Has(mvcc.FeaturesAll)
	s.Store, err = pebble.Open(filepath.Join(c.Dir(), datadir.Store), pebble.Options{
		CacheBytes:    c.CacheBytes,
		MemTableBytes: c.MemTableBytes,
		ReserveBytes:  c.DiskReserveBytes,
		QuotaBytes:    c.QuotaBackendBytes,
		Logger:        o.Log,
		Observe:       pebble.Observer{WALSync: s.disk.WALSync, Commit: s.disk.Commit},
		OnDamage:      o.OnDamage,
		OnFailure:     o.OnFailure,
		Adopt:         activate,
		ValueFiles:    c.ValueFiles == config.ValueFilesAll || c.ValueFiles == config.ValueFilesNew && activate,
		NewValueFiles: c.ValueFiles == config.ValueFilesNew,
		CloseWithin:   closeWithin,
	})
	if err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

// Close implements engine.Store.
func (s store) Close() error { return errors.Join(s.Store.Close(), s.lock.Close()) }

// warnReadable logs a warning if other users can read the data directory, for example because it was made by hand.
func warnReadable(log *slog.Logger, dir string) {
	for _, d := range []string{dir, filepath.Join(dir, datadir.Store)} {
		if fi, err := os.Stat(d); err == nil && fi.Mode().Perm()&0o077 != 0 {
			log.Warn("others may read the data directory",
				"directory", d, "permissions", fi.Mode().Perm().String(), "recommended", os.FileMode(0o700).String())
			return
		}
	}
}
