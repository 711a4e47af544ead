// Package migrate makes a keyspace a copy of a live etcd: it copies a snapshot, replays the log that a watch shows,
// compares both sides in full, and cuts over. It runs where the operator is. It reads the source as a client of etcd's
// API, and writes the keyspace through the admin API (service Migration), so that a server never holds the credentials
// of another. It also writes and reads JSON lines (Export, Import), and puts the content of a keyspace into an etcd
// (Back).
//
//	source                                    keyspace
//	Maintenance.Snapshot  ──── Restore ────►  revisions and history, leases, users; it follows
//	Watch of all keys     ──── Replay  ────►  each revision under its own number
//	Range at a revision   ◄─── Page    ────   compared in full, while it follows
//	leases, auth status   ──── CutOver ────►  leases with their full time; it takes writes
//
// # Invariants
//
//   - A keyspace has revision r of the source only with all that came before, and every key of it with the same value,
//     creation, version and lease: what is replayed is held against what is there, in its transaction.
//   - Everything can be repeated and done by several at once: what is there already is left out, and only the next
//     revision of the one source is taken. Where a migration has come to is in the keyspace, not here.
//   - A keyspace is bound to one cluster. One that was made of a file is not yet: it has the first keys of a source
//     before it is bound to that.
//   - A copy that is cut off before it is whole leaves no keyspace. With Migration.WorkDir the next one goes on with
//     the same snapshot; a file there under its final name is whole. Following goes on where it was.
//   - What cannot be followed (compacted at the source, or a revision too large for a request) is copied again, after a
//     pause that grows up to a minute.
//   - Nothing assumes that the source's revisions have no gaps: a request names the revision before its first.
//   - A cut-over happens at one revision of both sides, with the leases and users that the source had there, or not at
//     all. It does not stop the source's writers; it only finds out that they have not been stopped, until it is done.
//   - A file of lines that is not whole is not taken for one: it has a line at its end that says so.
//   - Of the log no more than tailBytes are held, with Migration.WorkDir tailMemory in memory and spillBytes on disk.
//     Copies are watched from before the snapshot on: what the source compacts meanwhile is not missed, unless it is
//     more.
//
// # Concurrency
//
// A Migration is used by one goroutine. Run starts goroutines of its own, which have ended when it returns.
//
// # Testing
//
// tests/snapshots moves real etcds to servers, with clients on both, and kills either side. Comparison and the form of
// lines are tested here.
package migrate
