// Package faults runs the whole etcd layer (mvcc, watch, lease, etcdapi) in this process over engines that behave badly,
// under the traffic of internal/load, and lets the judges of internal/check decide, as package robustness does for the
// built binary.
//
//   - Power losses: the embedded engine on a file system in memory that forgets what was not synced.
//   - Conflicts, sparse stamps, several lanes and FoundationDB's limits: what the same code meets on FoundationDB.
//     Revisions are mapped to ranks before they are judged.
//   - Injected faults (engine/faults): conflicts, unknown outcomes that did or did not commit, reads that are too
//     old, outages.
//
// Flags: -duration and -seed, as in package robustness.
package faults
