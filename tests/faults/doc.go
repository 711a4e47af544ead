// Package faults runs the whole etcd layer (mvcc, watch, lease, etcdapi) in this process over engines that behave
// badly, under the traffic of internal/load, and lets the judges of internal/check decide, as package robustness does
// for the built binary.
//
//   - TestPowerLoss: the embedded engine on a file system in memory that forgets what was not synced.
//   - TestForgottenWrites: a server that forgets acknowledged writes, which the judges have to notice.
//   - TestSparse, TestSparseKubernetes: sparse stamps, several lanes, commits side by side and FoundationDB's limits.
//     Revisions are mapped to ranks before they are judged.
//   - TestFaults, TestFaultsDense: injected faults (engine/faults): conflicts, unknown outcomes that did or did not
//     commit, reads that are too old, outages, slow calls.
//   - TestPods: two servers on one engine, with real conflicts between them, restarted in turn.
//
// On FoundationDB (make test-fdb) the sparse ones run on the cluster; there a crash is that of the server, not of the
// store. The others need a file system that loses power, or dense revisions.
//
// Flags: -duration and -seed, as in package robustness.
package faults
