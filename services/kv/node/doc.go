// Package node is a kv pod: reads, writes and maintenance of one keyspace on the store that all pods share.
//
// # Invariants
//
//   - A kv pod holds no state that cannot be read again: any of them may be killed at any time, and any number may run.
//   - Automatic compaction and the removal of compacted rows are the work of one kv pod at a time, elected as "compactor". Nothing
//     goes wrong if there are two for a moment: both only ever do what a compaction allows.
//   - Lock and Election run on a client of this process: KV is its own, Watch and Lease are relayed as for any client.
//   - An alarm that was set or cleared through another pod stops growth here within etcdapi.AlarmsEvery; it is shown, and can be
//     cleared, at once.
//
// # Limits
//
// --quota-backend-bytes has no effect: the size of the database is FoundationDB's to bound, and a pod that can no longer
// write says so by itself. The alarm NOSPACE is therefore never raised here; one that an operator activates is obeyed.
//
// # Concurrency
//
// See package pod.
package node
