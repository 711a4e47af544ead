// Package standalone starts a standalone server in the test's own process, as services/standalone does. Package hw runs
// the built program, which a test can kill.
//
// Invariants: a server has a data directory and ports of its own, and ends in order with its test. It reserves no free
// space on the disk, so that no test fails on a machine whose disk is nearly full.
//
// Concurrency: as tb.Fatal, Start may be called from the goroutine of a test only.
//
// Testing: the packages that use it test it.
package standalone
