//go:build !unix

package server

// openFilesLimit is how many files the process may have open; 0: not known.
func openFilesLimit() int { return 0 }
