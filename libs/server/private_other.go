//go:build !linux

package server

import "syscall"

// bindPrivate does nothing: here a socket gets its mode when it has a name, which is why it should lie in a directory
// that only its user can enter.
func bindPrivate(string, string, syscall.RawConn) error { return nil }
