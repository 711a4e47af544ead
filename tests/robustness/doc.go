// Package robustness runs the built server under concurrent traffic. It kills, terminates and pauses the server at
// random points, and restarts it each time on the same data. Then etcd's own model and validators compare what the
// clients saw with the server's log (package internal/check).
//
// Tests here:
//
//   - TestKeyValue, TestCompaction, TestKubernetes: the traffic profiles of internal/load under faults.
//   - TestLeases: while the server is killed again and again, no lease ends early, and every lease ends.
//   - TestJudges: a recorded history is corrupted in many ways, and the judge of each kind of corruption has to object.
//
// Flags (after the package in a go test command):
//
//	-duration 8s     how long the traffic of each profile goes on; longer if it has not met all that is judged by then
//	-seed 1          seed of all random choices; random by default and always printed
//	-target pods     run the distributed form, pods of all kinds in one process (tests/internal/pods);
//	                 the default of a run on FoundationDB
//	-target etcd     run the same against real etcd, to try the harness itself
//	-artifacts dir   where to keep histories, data and porcupine's picture of a failed run
//
// The interleaving depends on the machine and not on the seed, so a failure may need several runs to occur again.
package robustness
