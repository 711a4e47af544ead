// Package engine is the storage that the etcd layer stands on: an ordered byte map with snapshot reads, optimistic
// transactions, stamps assigned at commit, and a classification of errors.
//
// It is the common denominator of FoundationDB and an embedded store, in FoundationDB's terms: read versions, parallel
// reads, conflict ranges, versionstamped keys and values, bounded transactions, commits whose outcome may be unknown.
// Whatever holds for FoundationDB only (5 s, 10 MB, sparse versions) shows in Limits and in the error classes, never as
// an assumption of the caller.
//
// # Invariants
//
//   - Strict serializability: the order of stamps of a domain is the order of commits, and a commit that has been
//     acknowledged before another one began has the smaller stamp.
//   - A Snapshot shows durable state only, so that an answer built from one may leave at once.
//   - A stamp is used by one commit only and never goes backwards, over restarts too; on a dense engine that holds
//     for each stamp domain by itself (domain.go).
//   - Damaged data (ErrDamaged) is an error of the reads that meet it, never of the store or of other reads.
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
