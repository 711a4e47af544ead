//go:build unix

package server

import "golang.org/x/sys/unix"

// openFilesLimit returns how many files the process may have open; 0: not known.
func openFilesLimit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(uint64(l.Cur), 1<<30)) //nolint:unconvert // it is signed on some systems
}
