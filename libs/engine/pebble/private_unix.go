//go:build unix

package pebble

import "golang.org/x/sys/unix"

func chmod(fd uintptr, mode uint32) error { return unix.Fchmod(int(fd), mode) }
