// Package history keeps recent log entries in a Pebble store of its own, so that watchers which the hub's memory has
// left behind are served from the local disk instead of the log of the keyspace.
//
// It is for hubs whose log is far away (FoundationDB). A standalone server has no use for it: its log is in Pebble
// already, and the cache would write every entry a second time.
//
// # How it works
//
// A Cache gets the entries that the hub gets, by Append, which only queues them; one goroutine writes them. Over
// wraps the log of a keyspace: reads that the cache holds completely are answered from it, all others from the log.
//
// # Invariants
//
//   - The cache is complete for the revisions in (floor, last]. A row holds entries that follow each other, encoded as
//     the log has them, and the revision of the entry before its first. A read follows that chain, so a hole can not be
//     read over, whatever made it. Revisions need not be dense.
//   - There is no write-ahead log: a crash loses the newest rows, never some in between, since memtables are written
//     out in order. What is lost is read from the log again.
//   - What is found at start is not trusted before Start has compared its identity, the format of its rows, its chain
//     and a sample of its entries, among them the first and the last, with the log. What does not match is thrown away.
//   - Nobody waits for the cache: when its disk cannot keep up it lets go of what it has, and reads go to the log.
//   - The first read or write that fails is the end of the store: it is thrown away, with what is in the directory, and
//     a new one is filled from the log with what the old one held. Reads go to the log meanwhile. Pebble itself never
//     sees that a write has failed (mortalFS), since it would end the process or wait for ever. A directory that
//     another process has is left alone.
//   - Memory is bounded by DefaultQueueBytes and Pebble's memtables, disk by Options.MaxBytes and Options.MaxAge.
//   - Reads below the compact revision are the log's business: they fail as they would without the cache.
//
// # Concurrency
//
// Append comes from one goroutine at a time; everything else may be called from any. Cache.mu guards the window and is
// held over no input or output but the opening of an iterator, so that no trim comes between check and read. One
// goroutine writes, and replaces the store when it has failed; it closes the old one when no read uses it any more.
//
// # Testing
//
// TestCacheAgainstLog compares every read with the log under random trims, overflows, restarts and crashes.
// TestDamagedFiles spoils every file in every way, open and closed. The hub's own tests run with a Cache in front of
// their log as well.
package history
