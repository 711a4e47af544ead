// Package keyspace names the keyspaces of a deployment: one is what clients see as one etcd cluster.
//
// A table in the store gives each name a number, the number gives short prefixes for its rows, and the name's row
// says what else there is to say: limits, weight, who may enter, labels. All of it lies below a root, so that a
// database may be shared with others. A keyspace that was there before the table, in a store of its own, has rows
// without a prefix (Row.Unprefixed): the root must lie behind them.
//
// # Rows
//
//	<root> 00 'n' <name>    a Keyspace, or id      the keyspaces
//	<root> 00 'x' <id>      a Keyspace, or name    deleted ones
//	<root> 00 'i'           format (1), id (8)     the last id given
//	<root> 00 'u'           format (1), id (8)     the one without a prefix
//	<root> 00 'v'           counter                changes of the table
//	<root> 02 'p' <pod>     what a pod says of itself (Announce); not of the table
//	<root> 01 <id> 'd' …    data: the rows of libs/mvcc
//	<root> 01 <id> 'c' …    coordination: elections, members
//	<root> 02 'f'           format (1), number of shards (1) of the deployment's work
//	<root> 02 'h' <s> <id>  heads: of the keyspaces of shard s, which all pods serve (see Beside)
//	<root> 02 'b' <s>       bell: changes with the heads of shard s
//	<root> 02 'l' <s> <id>  the keyspace may have leases
//	<root> 02 'r' <s> <id>  it may have something to remove after a compaction
//	<root> 02 'w' <s>       counter: changes of the rows 'r' of shard s
//	<root> 02 'c' …         coordination of the deployment: elections, members
//
// In those below 01 the id has its length in bytes before it: two bytes up to 255. No such prefix is the beginning of
// another.
//
// # Invariants
//
//   - A name has at most one keyspace; of two creators at once, both get the same.
//   - Ids only grow and are never used again. So a keyspace that is created after one of the same name was deleted
//     has rows of its own: a pod that still serves the deleted one cannot touch it, nor read it.
//   - An id that is reserved (Reserve) is among the deleted ones in a state of its own, and nobody clears below it,
//     until it is published under its name or given up.
//   - Deletion is one transaction, whatever the keyspace holds: from then on it is not served, and its name is free.
//     Its rows go later, in transactions of a bounded size (Clear).
//   - What pods that had not noticed wrote later lies below a deleted id, out of the way. Sweep clears it.
//   - A row that only has an id is one with default settings that is open to all, and stays as it is until it is
//     changed: earlier releases read no other. They refuse a row in the new form, and with it the list.
//   - Who may enter is said by the row (Admits). One that not everybody may enter has a form of row that releases which
//     know no rules refuse too. A keyspace with pods of its own, and one without a prefix, are open for good.
//   - A keyspace is served by all pods of the deployment, or by pods of its own: those that are started with its name.
//     One that somebody has created (Create) is of the first kind, one that its pods have made (Open) of the second,
//     for good (Info.Shared).
//   - The rows below 02 are written without reading them by the transactions that they tell of. That of a keyspace
//     goes with it.
//   - Every change of the table counts in its version, in the same transaction. What is not known here of a row is
//     kept.
//
// A pod that serves a keyspace should stop when WaitDeleted returns. Until then it may go on acknowledging writes
// that are lost with the keyspace.
//
// # Failures
//
// A transaction whose outcome is unknown is made again; it finds what the first attempt did. Conflicts and reads that
// grow too old are tried again, attemptsMax times; an unavailable store is the caller's.
//
// # Concurrency
//
// All functions may be called from any goroutine and process.
package keyspace
