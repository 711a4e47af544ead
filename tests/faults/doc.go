// Package faults runs the whole etcd layer (mvcc, watch, lease, etcdapi) in this process on engines that fail, under
// the traffic of internal/load. The judges of internal/check decide whether the history is right. Package robustness
// does the same for the built binary.
//
//   - TestPowerLoss: the embedded engine on a file system in memory that forgets what was not synced.
//   - TestForgottenWrites: the judges notice a server that forgets acknowledged writes.
//   - TestSparse, TestSparseKubernetes: sparse stamps, several lanes, concurrent commits and FoundationDB's limits.
//     Revisions are mapped to ranks before they are judged.
//   - TestFaults, TestFaultsDense: injected faults (engine/faults): conflicts, unknown outcomes that did or did not
//     commit, reads that are too old, outages, slow calls.
//   - TestPods: two servers on one engine, with real conflicts between them, restarted in turn.
//
// On FoundationDB (make test-fdb) the tests with sparse stamps run on the cluster. There a crash is a crash of the
// server, not of the store. The other tests need a file system that loses power, or dense revisions.
//
// Flags: -duration and -seed, as in package robustness.
package faults
