// Package robustness runs the built server under concurrent traffic while it is killed, terminated and paused at random
// points, restarted each time on the same data, and then lets etcd's own model and validators judge what the clients
// saw against what the server's log holds (package internal/check).
//
// Tests here:
//
//   - TestKeyValue, TestCompaction, TestKubernetes: the traffic profiles of internal/load under faults.
//   - TestLeases: no lease ends early, every lease ends, under kills.
//   - TestJudges: a recorded history is corrupted in many ways, and each judge has to object to its kind of corruption.
//
// Flags (after the package in a go test command):
//
//	-duration 8s     how long the traffic of each profile goes on; longer if it has not met all that is judged by then
//	-seed 1          seed of all random choices; random by default and always printed
//	-target pods     run the distributed form, pods of all kinds in one process (tests/internal/pods); the default of a run on FoundationDB
//	-target etcd     run the same against real etcd, to try the harness itself
//	-artifacts dir   where to keep histories, data and porcupine's picture of a failed run
//
// The machine's interleaving is not part of the seed: a failure may need several runs to come back.
package robustness
