// Package backup keeps backups of a keyspace in a place such as a directory or a bucket. A backup is a full snapshot,
// or a log of the changes since the backup before. From them the keyspace can be restored at any revision in between.
//
// # What lies in a place
//
// A backup is an object and a manifest. The object is what the server has sent (libs/snapshot), compressed and perhaps
// encrypted. The manifest describes it. The manifest of a log names the backup that the log continues, its parent. A
// full backup and the logs that lead back to it are a chain.
//
// # Invariants
//
//   - The manifest is written last, after the object has been read back and compared. An object without a manifest is
//     no backup. It is removed when it is a day old.
//   - When a backup is removed, its manifest goes first. The backups that need it are removed before it.
//   - A log begins with the events of its parent's last revision. If these events differ, or the keyspace's id does,
//     the history is another one. A chain never joins two histories: Take then makes a full backup, which begins a new
//     chain, and says why.
//   - A place has the backups of one keyspace. The keyspace may get another id, for example by a restore. From then on
//     the place refuses backups under the first id, because that would mean that both servers run.
//   - Retention never removes the newest full backup, nor a backup that a kept backup needs.
//   - A backup in a newer format than this package knows is refused.
//
// # Memory and disk
//
// A backup passes through two temporary files, one as it was sent and one compressed. The files have no names
// (snapshot.TempFile), so a process that is killed leaves no unencrypted data behind. Manifests are held in memory and
// take some hundred bytes each. manifestsMax bounds them.
//
// # Concurrency
//
// A Repository belongs to one goroutine. Several processes may write to one place, because each backup is complete in
// itself and names its parent.
//
// # Testing
//
// The choice of backups and retention are pure functions and are tested with random chains. Taking and restoring are
// tested on a store in memory, where each write is cut off in turn.
package backup
