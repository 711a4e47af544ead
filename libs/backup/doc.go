// Package backup keeps backups of a keyspace in a place such as a directory or a bucket: full snapshots, and logs of
// what has changed since the one before, from which the keyspace can be restored as it was at any revision between.
//
// # What lies in a place
//
// Each backup is an object, what the server has sent (libs/snapshot), compressed and perhaps encrypted, and a manifest
// that says what it is. A log names the backup that it goes on from, its parent; a full backup and the logs that lead
// back to it are a chain.
//
// # Invariants
//
//   - The manifest is written last, when the object has been read back and is what was written. An object without one
//     is nothing, whatever it holds; it is removed when it is a day old.
//   - The manifest goes first when a backup is removed, and those that rest on it go before it.
//   - A log begins with the events of the revision that its parent ends with. If they are others, or the keyspace's id
//     is, the history is another one: a chain never joins two. A full backup begins a new chain then, and Take says
//     why.
//   - A place has the backups of one keyspace. Another id may follow, as after a restore; then the first one's are
//     refused, since both servers run.
//   - Retention never removes the newest full backup, nor anything that a backup which is kept rests on.
//   - A format that is newer than this package's is refused.
//
// # Memory and disk
//
// Backups pass through files in a directory for temporary ones: one as it has come, and one compressed. They have no
// names (snapshot.TempFile): a process that is killed leaves nothing there that is not encrypted. Manifests are held in
// memory, some hundred bytes each; manifestsMax bounds them.
//
// # Concurrency
//
// A Repository belongs to one goroutine. Several processes may write to one place: each backup is whole by itself, and
// names its parent.
//
// # Testing
//
// Choosing and expiring are pure and tested with random chains; taking and restoring run against a store in memory,
// with every write cut off in turn.
package backup
