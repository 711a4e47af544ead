// Package sidebyside sends the same requests to real etcd and to a server under test and compares everything that comes back:
// every field of every response, error codes and texts, and watch streams event by event.
//
// The parts:
//
//   - op.go, rewrite.go: a request sequence as data, with a text form that is kept in testdata/cases/*.json.
//   - target.go, call.go, stream.go, inspect.go: one server as its clients see it through raw gRPC stubs, so that fields and errors are seen unchanged.
//   - pair.go, compare.go: runs operations on both servers and compares.
//   - tolerate.go: the complete list of tolerated differences. Anything not written there is a failure.
//   - generate.go, generate_txn.go, raw.go: the seeded generator. reduce.go: makes a failing sequence small.
//   - concurrent.go: several clients at once on disjoint keys, with an order-independent comparison.
//
// How sequences share servers: starting servers per sequence would be slow, so sequences run one after the other on the same pair.
// Both servers get the same mutating requests and therefore have equal revisions all the time. A sequence ends with a delete of all
// keys and a revoke of all leases. Revisions inside a sequence count from its beginning as on a fresh store (revision 1), and are moved to
// the real ones when sent. After a difference the pair is thrown away.
//
// How a wait for watch events ends: each server is watched by a tap, a watch of everything. From the tap follows which events
// each watcher is owed; the comparison waits for these, with a deadline. The tap decides only how long to wait; what is judged are the two
// servers' streams against each other, and each stream against the guarantees I8 of the design (order, atomic revisions, headers never ahead).
//
// Running: go test ./sidebyside -sequences 20000 -seed 7 runs more or other sequences, -sut etcd compares etcd with etcd, which must
// find nothing (the harness's own check), -workers sets the number of pairs at once. The tests of the harness itself also check that
// deliberately altered answers are caught.
package sidebyside
