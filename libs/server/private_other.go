//go:build !linux

package server

import "syscall"

// bindPrivate does nothing. On this system a socket gets its mode only after it has a name, so it should be in a
// directory that only its user can enter.
func bindPrivate(string, string, syscall.RawConn) error { return nil }
