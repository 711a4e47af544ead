// Package keyspace names the keyspaces of a deployment: one is what clients see as one etcd cluster.
//
// A table in the store gives each name a number, and the number gives short prefixes for its rows. All of it lies below a root,
// so that a database may be shared with others. A standalone server has one keyspace with an empty prefix and does not use this
// package.
//
// # Rows
//
//	<root> 00 'n' <name>    format (1), id (8)     the keyspaces
//	<root> 00 'x' <id>      name                   deleted ones
//	<root> 00 'i'           format (1), id (8)     the last id given
//	<root> 01 <id> 'd' …    data: the rows of libs/mvcc
//	<root> 01 <id> 'c' …    coordination: elections, members
//
// In the last two the id has its length in bytes before it: two bytes up to 255. No such prefix is the beginning of another.
//
// # Invariants
//
//   - A name has at most one keyspace; of two creators at once, both get the same.
//   - Ids only grow and are never used again. So a keyspace that is created after one of the same name was deleted has rows of
//     its own: a pod that still serves the deleted one cannot touch it, nor read it.
//   - Deletion is one transaction, whatever the keyspace holds: its rows and its name go at once.
//   - What pods that had not noticed wrote later lies below a deleted id, out of the way. Sweep clears it.
//
// A pod that serves a keyspace should stop when WaitDeleted returns. Until then it may go on acknowledging writes that are lost with
// the keyspace.
//
// # Failures
//
// A transaction whose outcome is unknown is made again; it finds what the first attempt did. Conflicts and reads that grow too old
// are tried again, attemptsMax times; an unavailable store is the caller's.
//
// # Concurrency
//
// All functions may be called from any goroutine and process.
package keyspace
