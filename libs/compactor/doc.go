// Package compactor compacts a keyspace by itself, as etcd's --auto-compaction-mode and --auto-compaction-retention ask
// (etcd server/etcdserver/api/v3compactor).
//
// The modes are small state machines without clock or goroutine (Periodic, Revision); Run drives one of them.
//
//   - periodic: the head revision is noted ten times per period (of at most an hour); when a note is as old as the
//     retention, everything before it is compacted. Nothing is compacted in the first period after start, and
//     nothing while the revision stands still.
//   - revision: every five minutes all but the last so many revisions are compacted.
//
// # Concurrency
//
// Run is one loop; a planner belongs to it alone.
//
// # Testing
//
// Planners are table-tested step by step; the loop runs in a synctest bubble.
package compactor
