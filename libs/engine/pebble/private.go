package pebble

import (
	"errors"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Permissions of what a store creates.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// privateFS makes files that only their owner can read, whatever the umask says.
type privateFS struct{ vfs.FS }

// Unwrap implements vfs.FS.
func (f privateFS) Unwrap() vfs.FS { return f.FS }

// Create implements vfs.FS.
func (f privateFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return private(f.FS.Create(name, c))
}

// OpenReadWrite implements vfs.FS.
func (f privateFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return private(f.FS.OpenReadWrite(name, c, o...))
}

// ReuseForWrite implements vfs.FS.
func (f privateFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return private(f.FS.ReuseForWrite(from, to, c))
}

// Lock implements vfs.FS. The lock is a file like the others, so it is made like them.
func (f privateFS) Lock(name string) (io.Closer, error) {
	if _, err := f.Stat(name); errors.Is(err, fs.ErrNotExist) {
		file, err := f.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
	return f.FS.Lock(name)
}

// private removes the permissions of all but the file's owner. Files in memory have none.
func private(file vfs.File, err error) (vfs.File, error) {
	if err != nil || file.Fd() == vfs.InvalidFd {
		return file, err
	}
	if err := chmod(file.Fd(), fileMode); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}
