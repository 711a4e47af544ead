// Package standalone starts a standalone server in a test's own process, as services/standalone starts it in one of its
// own. Package hw does it with the built program, which a test can kill.
//
// Invariants: a server has a data directory and ports of its own, and ends in order with its test; it keeps no room on
// the disk free, so that a full machine fails no test.
//
// Concurrency: Start may be called from the goroutine of a test only, as tb.Fatal.
//
// Testing: the packages that use it.
package standalone
