// Package compactor compacts a keyspace automatically, as etcd does with --auto-compaction-mode and
// --auto-compaction-retention (etcd server/etcdserver/api/v3compactor).
//
// The modes are small state machines without clock or goroutine (Periodic, Revision); Run drives one of them.
//
//   - periodic: the head revision is noted ten times per period, where a period is at most an hour. When a note is as
//     old as the retention, everything before it is compacted. Nothing is compacted in the first period after the
//     start, nor while the revision does not change.
//   - revision: every five minutes, everything but the last revisions is compacted. The retention is their number.
//
// # Concurrency
//
// Run is one loop; a planner belongs to it alone.
//
// # Testing
//
// Planners are table-tested step by step; the loop runs in a synctest bubble.
package compactor
