//go:build !unix

package pebble

// chmod does nothing where files have no such permissions.
func chmod(uintptr, uint32) error { return nil }
