// Package faults wraps an engine.Store and injects faults: conflicts, commits with unknown outcomes that did or did not
// happen, read versions that grow too old in the middle of a scan, an unavailable store, delays, and crashes.
//
// # How faults are chosen
//
// Every call that can fail asks once for a fault. Options.Script comes first: it sees the call and may name a fault.
// Otherwise chance decides, by the probabilities in Options and a seeded source. Calls ask in the order in which they
// are made, so a single-threaded run with the same seed meets the same faults.
//
// # What a fault means
//
// A fault does exactly what the error's contract in package engine allows, and no more. Conflict and UnknownLost drop
// the transaction. UnknownCommitted makes it durable, and then reports an unknown outcome. TooOld and Unavailable fail
// one call, and the iterator that it was made on. Limits never reports Pipelined unless Options.KeepPipelined is set: a
// caller that builds on a commit before its Wait cannot be told later that the commit did not happen.
//
// # A store over a network
//
// With Options.Remote the store behaves like a FoundationDB 7.3 behind a network, in everything that a caller can
// notice. Each round trip takes time, and is counted by kind (Store.Trips): a read version, a Get, a GetMany of any
// length, the first and each further page of a scan, a commit that changes something. Pages are as large as
// FoundationDB's client makes them, and the first page of a scan is on its way when Scan returns. Transactions and
// snapshots end at 5 s. The size of a transaction is counted exactly as the client library does (package txnsize), and
// Wait refuses what the library would refuse, conflicts too. In a bubble of testing/synctest latencies take no real
// time, and the time on its clock is that of the longest chain of dependent round trips.
//
// # Damage
//
// Damage makes chosen rows unreadable until Mend. Reads that meet them fail with engine.ErrDamaged, and all other reads
// succeed.
//
// # Crash
//
// Crash makes every call fail with ErrUnavailable, also calls under way, until Restart. Restart gives the store a new
// inner store, which the test has opened on what the crash left.
//
// # Concurrency
//
// As engine.Store. Script and Delay are called from any goroutine.
package faults
