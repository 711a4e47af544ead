// Package keyspace names the keyspaces of a deployment. To its clients, a keyspace is one etcd cluster.
//
// A table in the store gives each name a number, and the number gives short prefixes for the keyspace's rows. The row
// of the name also has the keyspace's limits, weight, access rules and labels. All rows are below a root, so that
// other programs may use the same database. A keyspace that existed before the table, in a store of its own, has rows
// without a prefix (Row.Unprefixed); the root must come after these rows.
//
// # Rows
//
//	<root> 00 'n' <name>    a Keyspace, or id      the keyspaces
//	<root> 00 'x' <id>      a Keyspace, or name    deleted ones
//	<root> 00 'i'           format (1), id (8)     the last id given
//	<root> 00 'u'           format (1), id (8)     the one without a prefix
//	<root> 00 'v'           counter                changes of the table
//	<root> 00 'd'           format (1), a Keyspace who may enter the keyspace that has no row 'n' (ChangeUnlisted)
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
// In the rows below 01 the length of the id in bytes precedes the id, so ids up to 255 take two bytes. No such prefix
// is the beginning of another.
//
// # Invariants
//
//   - A name has at most one keyspace; if two processes create it at once, both get the same one.
//   - Ids only grow and are never used again. So when a keyspace is deleted and a new one of the same name is
//     created, the new one has rows of its own, and a pod that still serves the deleted one can neither read nor
//     change them.
//   - A reserved id (Reserve) is among the deleted ones, in a state of its own, until it is published under its name
//     or given up. Until then nothing below it is cleared.
//   - Deletion is one transaction, whatever the keyspace holds: from then on it is not served, and its name is free.
//     Its rows go later, in transactions of a bounded size (Clear).
//   - Pods that have not noticed the deletion may write later, below the deleted id, where it harms nothing. Sweep
//     clears these rows.
//   - A row that has only an id stands for a keyspace with default settings that is open to all. The row keeps this
//     form until it is changed, because earlier releases read no other form. They refuse a row in the new form, and
//     cannot list the table then.
//   - The row says who may enter (Admits). If access is restricted the row has another form, which releases that know
//     no access rules refuse too. A rule names certificates, users of the keyspace (Users), or both: either lets in. A
//     release that knows no users lets nobody in by them.
//   - Releases before mvcc.FeatureAccess serve a keyspace with pods of its own, and the one that is not in the table,
//     without a look at who may enter. So whoever restricts access to one sets that feature first.
//   - A keyspace is served by all pods of the deployment, or by pods of its own: those that are started with its name.
//     Create makes a keyspace of the first kind, and Open one of the second. This never changes (Info.Shared).
//   - The transactions that the rows below 02 describe write these rows, without reading them. The rows of a keyspace
//     are removed with it.
//   - Every change of the table increments its version, in the same transaction. Fields of a row that this release
//     does not know are kept.
//
// A pod that serves a keyspace should stop when WaitDeleted returns. Until then it may go on acknowledging writes
// that are lost with the keyspace.
//
// # Failures
//
// If the outcome of a transaction is unknown, it is run again, and finds what the first attempt did. After conflicts
// and reads that have grown too old, the transaction is tried again, up to attemptsMax times. If the store is
// unavailable, the caller gets the error.
//
// # Concurrency
//
// All functions may be called from any goroutine and process.
package keyspace
