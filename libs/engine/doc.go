// Package engine is the storage that the etcd layer stands on: an ordered byte map with snapshot reads, optimistic
// transactions, stamps assigned at commit, and a classification of errors.
//
// It is the common denominator of FoundationDB and an embedded store, in FoundationDB's terms: read versions, parallel
// reads, conflict ranges, versionstamped keys and values, bounded transactions, commits whose outcome may be unknown.
// What holds for FoundationDB alone (5 s, 10 MB, sparse versions) appears in Limits and in the error classes; callers
// never assume it.
//
// # Invariants
//
//   - Strict serializability: the order of stamps of a domain is the order of commits. If a commit was acknowledged
//     before another one began, it has the smaller stamp.
//   - A Snapshot shows durable state only, so that an answer built from one may leave at once.
//   - Only one commit uses a stamp, and stamps never go backwards, not even across restarts. On a dense engine this
//     holds within each stamp domain (domain.go).
//   - Reads that meet damaged data fail with ErrDamaged. The store and all other reads go on.
//
// # Concurrency
//
// A Store may be used from any goroutine; a Reader, Txn or Iterator from one at a time.
//
// # Testing
//
// Package enginetest is the conformance suite that every engine passes; package faults wraps an engine and injects
// conflicts, unknown outcomes, old read versions, latency and crashes.
package engine
