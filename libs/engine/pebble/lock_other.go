//go:build !unix

package pebble

import "io"

// LockDir does nothing on this system: Pebble's own lock file has to do.
func LockDir(string) (io.Closer, error) { return nothing{}, nil }
