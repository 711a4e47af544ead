// Package leases holds leases through faults and tells whether any ended early, late or by halves.
//
// A Life is one lease with two keys: granted, kept alive for a while, then left to end. What counts is what its
// client knows: the server counted the TTL from some moment between the sending of the last request that was answered
// and that answer. So a lease that ends before its TTL after the sending ended early, however often its owner
// changed; the end may be late.
//
// A deletion is known to have happened before the event of it arrives, before a keep-alive or a read says that it
// has, and before anything shows a revision at or above its own (Clock): the earliest of these counts, so that a slow
// watcher hides no early end.
//
// Times are time.Time with monotonic readings of one process. Concurrency: a Life belongs to one goroutine; Deletes and
// Clock are safe for concurrent use.
package leases
