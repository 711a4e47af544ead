// Package memory is an engine in memory that behaves as FoundationDB does (stamps that have gaps, one version per
// commit, FoundationDB's limits, nothing pipelined). It is for tests that run where Pebble cannot. It needs no
// operating system and starts no goroutine. What it does depends on the calls and on the clock alone, so that it is
// deterministic in a simulation that controls both.
//
// # Invariants
//
//   - Commits happen one after the other, as a whole, under one lock. Each has a version above all versions that were
//     read or written before. Versions grow by a million a second, as FoundationDB's do.
//   - A state that somebody reads never changes. Commits change a copy that shares everything else with it.
//   - The store keeps the writes of the last historyMax commits. It cannot check a transaction that is older, which
//     gets ErrTooOld.
//   - A store may be set back to what it had before (SetBack), with versions that begin anew. What has begun before that
//     is not committed.
//
// # Concurrency
//
// A Store may be used from any goroutine, its readers and transactions from one at a time.
//
// # Testing
//
// It passes the conformance suite of libs/engine/enginetest.
package memory
