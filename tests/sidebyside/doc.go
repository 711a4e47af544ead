// Package sidebyside sends the same requests to real etcd and to a server under test and compares everything that
// comes back: every field of every response, error codes and texts, and watch streams event by event.
//
// The parts:
//
//   - op.go, rewrite.go: a request sequence as data, with a text form that is kept in testdata/cases/*.json.
//   - target.go, call.go, stream.go, inspect.go: one server as its clients see it through raw gRPC stubs, so that
//     fields and errors are seen unchanged.
//   - pair.go, compare.go: runs operations on both servers and compares.
//   - tolerate.go: the complete list of tolerated differences. Anything not written there is a failure.
//   - generate.go, generate_txn.go, raw.go: the seeded generator. reduce.go: makes a failing sequence small.
//   - pods.go, alarm.go: the distributed form as a server under test: pods on one engine, whose revisions have gaps.
//   - keyspaces_test.go: a keyspace of a standalone process as a server under test, beside busy keyspaces.
//   - gateway.go: sends the requests of a target as JSON through its gateway.
//   - concurrent.go: several clients at once on disjoint keys, with an order-independent comparison.
//
// How sequences share servers: starting servers per sequence would be slow, so sequences run one after the other on
// the same pair. Both servers get the same mutating requests and therefore have equal revisions all the time. A
// sequence ends with a delete of all keys and a revoke of all leases. Revisions inside a sequence count from its
// beginning as on a fresh store (revision 1), and are moved to the real ones when sent. After a difference the pair
// is thrown away.
//
// How revisions with gaps are compared: the connection to the pods replaces ranks by revisions in requests, and
// revisions by ranks in answers (tests/internal/ranks), so that everything else here counts revisions as etcd does.
// Each request and each stream goes to the next pod, whatever its kind, so that all pods must know what one has
// answered. A Restart takes the engine from all pods at once and starts others.
//
// How a wait for watch events ends: each server has a tap, which is a watch of everything. The tap shows which events
// each watcher must still get, and the comparison waits for these, with a deadline. The tap only decides how long to
// wait. The judgement compares the two servers' streams with each other, and each stream with the guarantees I8 of the
// design (order, atomic revisions, headers never ahead).
//
// Running: go test ./sidebyside -sequences 20000 -seed 7 runs more or other sequences. -sut etcd compares etcd with
// etcd, which must find nothing (the harness's own check). -workers sets the number of pairs that run at the same time.
// -sut pods compares the distributed form for as long as that, on the engine that package testengine chooses, and -sut
// faults the same while the engine makes conflicts and unknown outcomes:
//
//	go test ./sidebyside -run Random -sut pods -sequences 20000 -workers 16 -duration 0
//	FDB_CLUSTER_FILE=… HEADWATER_TEST_ENGINE=foundationdb \
//	  go test -tags foundationdb ./sidebyside -run Random -sut pods -sequences 500 -workers 4 -duration 0
//
// The tests of the harness itself also check that it notices falsified answers and requests, through ranks too.
package sidebyside
