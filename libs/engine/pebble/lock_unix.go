//go:build unix

package pebble

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// LockDir takes the directory itself for this process until the closer is closed or the process ends; ErrInUse if
// another holds it. The lock is on the directory, not on a file in it: removing files does not give it up. It does
// nothing where the file system has no such locks (some network file systems).
func LockDir(dir string) (io.Closer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s cannot be opened: %w", dir, cause(err))
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			_ = f.Close()
			return nil, fmt.Errorf("data directory %s is %w", dir, ErrInUse)
		}
		return f, nil
	}
}
