// Package valueload measures what larger values cost a server. It removes many of them by deletes, revokes and
// compactions while another client puts, and it measures the bytes that updates and creates of them write to disk.
// Results are named values, as those of package watchload.
//
// # How it is measured
//
//   - A removal (Delete, Revoke, Compact) is timed by the client that asks for it. It happens Options.Repeat times on
//     one server, each after a fresh fill and a rest. The other client puts values of besideBytes, each as soon as the
//     last is answered. PutMax counts the puts that were under way between the request and its answer. PutP99 counts
//     those until besideTail after the request's beginning, if that is later.
//   - Bytes written are what the kernel charges to the server's process (proc.IO), from before the first request until
//     the process has written next to nothing for a while. So flushes and compactions that the load has caused count.
//     The sum is divided by the bytes of all acknowledged values.
//   - Memory is the highest RSS from the request until the watcher has all its events. The peak is reset before.
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
