package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/headwaterdb/headwater/libs/engine/pebble"
	"github.com/headwaterdb/headwater/libs/snapshot"
)

const (
	// Store is the name of the engine's directory in a data directory. Restoring is its name until it is complete.
	Store     = "store"
	Restoring = "store.restoring"

	// memTableBytes is larger than a server's: nobody reads meanwhile. Up to four are in memory, and as much again that
	// the collector has not come to.
	memTableBytes = 32 << 20
	// cacheBytes is what compactions want to find again.
	cacheBytes = 8 << 20
	// closeWithin is how long the store may take to be closed: what it has in memory is written out then.
	closeWithin = time.Minute
)

// Check refuses a data directory in which a restore was interrupted, or that belongs to an etcd.
func Check(dir string) error {
	if there, err := exists(filepath.Join(dir, "member")); err != nil || there {
		return errors.Join(err, refuse(there, "data directory %s holds the data of an etcd (member/), which Headwater "+
			"neither reads nor overwrites; choose another --data-dir", dir))
	}
	store, err := exists(filepath.Join(dir, Store))
	if err != nil || store {
		return err
	}
	half, err := exists(filepath.Join(dir, Restoring))
	return errors.Join(err, refuse(half, "a restore into data directory %s was interrupted: repeat it, or remove %s",
		dir, filepath.Join(dir, Restoring)))
}

func refuse(yes bool, format string, args ...any) error {
	if !yes {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Restore makes the store of a data directory from a file. The directory may exist, but without a store. If Restore
// fails, there is still no store, and it can be repeated.
func Restore(
	ctx context.Context,
	r *snapshot.Reader,
	dir string,
	o snapshot.RestoreOptions,
) (snapshot.Restored, error) {
	c, err := r.Content(ctx)
	if err != nil {
		return snapshot.Restored{}, err
	}
	return RestoreContent(ctx, &c, dir, o)
}

// RestoreContent is Restore for content that need not come from one file.
func RestoreContent(
	ctx context.Context,
	c *snapshot.Content,
	dir string,
	o snapshot.RestoreOptions,
) (_ snapshot.Restored, err error) {
	if err := o.Check(); err != nil {
		return snapshot.Restored{}, err
	}
	if there, err := exists(filepath.Join(dir, "member")); err != nil || there {
		return snapshot.Restored{}, errors.Join(err, refuse(there, "%s holds the data of an etcd (member/)", dir))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return snapshot.Restored{}, err
	}
	lock, err := pebble.LockDir(dir)
	if err != nil {
		return snapshot.Restored{}, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	store, half := filepath.Join(dir, Store), filepath.Join(dir, Restoring)
	if there, err := exists(store); err != nil || there {
		return snapshot.Restored{}, errors.Join(err, refuse(there, "%s has a store already", dir))
	}
	if err := os.RemoveAll(half); err != nil {
		return snapshot.Restored{}, err
	}
	done, err := write(ctx, c, half, o)
	if err != nil {
		return done, errors.Join(err, os.RemoveAll(half))
	}
	if err := os.Rename(half, store); err != nil {
		return done, err
	}
	return done, syncDir(dir)
}

// write makes a store.
func write(
	ctx context.Context,
	c *snapshot.Content,
	dir string,
	o snapshot.RestoreOptions,
) (done snapshot.Restored, err error) {
	eng, err := pebble.Open(dir, pebble.Options{
		FS: pebble.Unsynced(), MemTableBytes: memTableBytes, CacheBytes: cacheBytes, CloseWithin: closeWithin,
		NewValueFiles: true, // as a server's new store
	})
	if err != nil {
		return done, err
	}
	done, err = snapshot.RestoreContent(ctx, c, eng, o)
	if err := errors.Join(err, eng.Close()); err != nil {
		return done, err
	}
	return done, pebble.SyncFiles(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
