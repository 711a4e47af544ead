// Package valueload measures what larger values cost a server when they go: deletes, revokes and compactions of many
// of them, with another client's puts going on meanwhile, and the bytes that updates and creates of them write to
// disk. Results are named values, as those of package watchload.
//
// # How it is measured
//
//   - A removal (Delete, Revoke, Compact) is timed by the client that asks for it. It happens Options.Repeat times on
//     one server, each after a fresh fill and a rest. The other client puts values of besideBytes, one when the last
//     is answered; those count that were under way at some time from the request until its answer (PutMax), or until
//     besideTail after its beginning if that is later (PutP99).
//   - Bytes written are those that the kernel charges to the server's process (proc.IO), from before the first
//     request until the process has written next to nothing for a while, so that flushes and compactions which the
//     load has caused count. They are divided by the bytes of all values that were acknowledged.
//   - Memory is the highest RSS from the request until all events of it are at the watcher, reset before.
//
// # Invariants
//
//   - A failed request, or an answer that does not say what it has to (the number of deleted keys, the events of a
//     delete), fails the load.
//   - Values are random and no two alike (load.Values).
//
// # Concurrency
//
// Each load runs its own goroutines and returns when all have ended. One load at a time on one server.
//
// # Testing
//
// The loads run small against an embedded etcd; what they compute is tested without a server. No time is asserted.
package valueload
