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
//   - A keyspace has revision r of the source only together with everything before it, and every key with the same
//     value, creation, version and lease: a replayed event is compared with what is there, in its transaction.
//   - Every step can be repeated, and several processes may do it at the same time. What is there already is left out,
//     and only the next revision of the right source is taken. The progress of a migration is stored in the keyspace,
//     not here.
//   - A keyspace is bound to one cluster. One that was restored from a file is not bound yet. It is bound to a source
//     only if it has the source's first keys.
//   - A copy that is cut off before it is complete leaves no keyspace. Following continues where it stopped.
//   - A cut-over happens at one revision of both sides, with the leases and users that the source has there, or not at
//     all. It does not stop the source's writers. It only finds out, until it is done, that they were not stopped.
//   - An incomplete file of lines is recognised, because a complete one ends with a line that says so.
//   - At most tailBytes of the log are held. During a copy the source is watched from before the snapshot on, so its
//     compactions do no harm unless more than that has to be held.
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
