package pebble

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Unsynced returns the operating system's file system without syncs. It is for a restore: nobody may use the store
// until it has been closed and SyncFiles has returned nil, and its logs are removed before they would ever be written.
func Unsynced() vfs.FS { return unsyncedFS{vfs.Default} }

// SyncFiles syncs all files and directories below dir, and dir itself. The caller must sync the directory that contains
// dir.
func SyncFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

type unsyncedFS struct{ vfs.FS }

// Unwrap implements vfs.FS.
func (f unsyncedFS) Unwrap() vfs.FS { return f.FS }

func unsynced(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

// Create implements vfs.FS.
func (f unsyncedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(f.FS.Create(name, c))
}

// Open implements vfs.FS.
func (f unsyncedFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	return unsynced(f.FS.Open(name, o...))
}

// OpenReadWrite implements vfs.FS.
func (f unsyncedFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return unsynced(f.FS.OpenReadWrite(name, c, o...))
}

// OpenDir implements vfs.FS.
func (f unsyncedFS) OpenDir(name string) (vfs.File, error) { return unsynced(f.FS.OpenDir(name)) }

// ReuseForWrite implements vfs.FS.
func (f unsyncedFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return unsynced(f.FS.ReuseForWrite(from, to, c))
}

// unsyncedFile leaves the writing to the kernel.
type unsyncedFile struct{ vfs.File }

// Sync implements vfs.File.
func (unsyncedFile) Sync() error { return nil }

// SyncData implements vfs.File.
func (unsyncedFile) SyncData() error { return nil }

// SyncTo implements vfs.File.
func (unsyncedFile) SyncTo(int64) (bool, error) { return false, nil }
