// Package testengine gives tests the shared engine of this run: what pods of a distributed Headwater share. By default
// that is the Pebble engine in memory, with stamps, limits, conflicts and outcomes as FoundationDB's; on demand it is
// a real FoundationDB. Only tests import it.
//
//	go test ./...                                                                          # Pebble
//	FDB_CLUSTER_FILE=… HEADWATER_TEST_ENGINE=foundationdb go test -tags foundationdb ./…   # FoundationDB (make test-fdb)
//
// # Invariants
//
//   - Nothing is tested on another engine than the one that was chosen. A run that has chosen FoundationDB and cannot
//     have it (no build tag, no cluster file) fails, with a text that says what is missing.
//   - A run that has not chosen it says so: every suite that has a run on FoundationDB has a test that calls
//     OnFoundationDB and is skipped there.
//   - Each Open is a place of its own, empty, whichever tests run at the same time. On FoundationDB it is a random
//     prefix, Root, whose rows are cleared with the test. Those of a test process that was killed stay; `fdbcli
//     --exec "writemode on; clearrange headwater-test/ headwater-test0"` removes all of them when no tests run.
//
// # What stays on Pebble
//
// Tests that need what only Pebble has call NeedsPebble, or say so where they open it: a file system that loses power
// (libs/engine/faults, tests/faults), dense revisions and lanes that feed the hub themselves (libs/etcdapi, the
// standalone server). libs/lease, libs/feed and libs/watch are tested over fakes, not over an engine; what is around
// them is tested in pods. tests/concurrency compares two services on a real etcd. Tests in a bubble of
// testing/synctest run on both (OpenInBubble).
//
// libs/engine/foundationdb and libs/mvcc have runs on FoundationDB of their own, which need no choice: the build tag
// and a cluster file are enough.
//
// # Concurrency
//
// Open may be called from any goroutine that may call the test's Fatal.
//
// # Testing
//
// Its own tests check the choice, and that what was chosen is what Open gives.
package testengine
