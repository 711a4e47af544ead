//go:build !unix

package server

// openFilesLimit returns how many files the process may have open; 0: not known.
func openFilesLimit() int { return 0 }
