// Package faults wraps an engine.Store and makes bad days: conflicts, commits of unknown outcome that did or did not
// happen, read versions that grow too old in the middle of a scan, an unavailable store, delays, and crashes.
//
// # How faults are chosen
//
// Every call that can fail asks once: first Options.Script, which sees the call and may name a fault; else chance, by
// the probabilities in Options and a seeded source. Calls ask in the order they are made, so a single-threaded run
// with the same seed meets the same faults.
//
// # What a fault means
//
// A fault does exactly what the error's contract in package engine allows and no more: Conflict and UnknownLost drop
// the transaction, UnknownCommitted makes it durable before it says that it does not know, TooOld and Unavailable
// fail one call (and the iterator it hit). The wrapped store is never Pipelined as far as Limits tells, unless
// Options.KeepPipelined is set: a caller that builds on a commit before its Wait cannot be given an outcome that it
// did not happen.
//
// # A store over a network
//
// With Options.Remote the store behaves as a FoundationDB 7.3 over a network where a caller can tell. Each round trip
// takes its time and is counted by kind (Store.Trips): a read version, Get, GetMany whatever its length, a scan's
// first page and each further one, a commit that changes anything. Pages are as large as FoundationDB's client makes
// them, and a scan's first one is under way when Scan returns. Transactions and snapshots end at 5 s. A transaction
// is measured exactly as the client library does (package txnsize), and what it would not take it refuses in Wait,
// conflicts too. In a bubble of testing/synctest latencies take no time, and what has passed on its clock is the
// longest chain of round trips that had to wait for one another.
//
// # Damage
//
// Damage makes chosen rows unreadable, until Mend: reads that meet them fail with engine.ErrDamaged, all others are
// right.
//
// # Crash
//
// Crash makes every call fail with ErrUnavailable, those under way too, until Restart gives the store a new inner one,
// which the test has opened on what the crash left.
//
// # Concurrency
//
// As engine.Store. Script and Delay are called from any goroutine.
package faults
