// Package memory is an engine in memory that behaves as FoundationDB does (stamps that have gaps, one version per
// commit, FoundationDB's limits, nothing pipelined). It is for tests that run where Pebble cannot: it needs no
// operating system, starts no goroutine, and what it does is a function of the calls and of the clock, so that a
// simulation which has both in its seed has the engine in it too.
//
// # Invariants
//
//   - Commits happen one after the other, whole, under one lock; each has a version above all that were read or
//     written before. Versions go on by a million a second, as FoundationDB's do.
//   - A state that somebody reads is never changed: commits go to a copy that shares what is the same.
//   - The writes of a commit are kept for historyMax commits; a transaction that is older cannot be checked and gets
//     ErrTooOld.
//
// # Concurrency
//
// A Store may be used from any goroutine, its readers and transactions from one at a time.
//
// # Testing
//
// It passes the conformance suite of libs/engine/enginetest.
package memory
