package pebble

import (
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// nothing is the lock where there is none to take.
type nothing struct{}

func (nothing) Close() error { return nil }

// lockDir is LockDir for directories of the operating system; others are guarded by Pebble's lock alone.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	if vfs.Root(fs) != vfs.Default {
		return nothing{}, nil
	}
	return LockDir(dir)
}
