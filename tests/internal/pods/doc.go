// Package pods starts the three kinds of pods in this process, on an engine and a bus that a test gives them. So a test
// needs no real deployment.
//
// Start starts one pod of a kind from a configuration of the caller's. A Deployment is a number of pods of each kind
// that find each other: they listen on unix sockets, whose names are known before they start, and on TCP ports of
// loopback for clients that want these. Every address serves the whole etcd API.
//
//	e := testengine.Open(t, seed)
//	b := bus.NewLocal() // closed by the caller, after the Deployment
//	d := pods.New(t, compose.Parts{Engine: e, Bus: b}, 1)
//	if err := d.StartAll(t.Context()); err != nil { … }
//	conn, err := grpc.NewClient(d.Addr(compose.KV, 0), …)
//
// A Process is a Deployment with one pod of each kind in a process of its own, which package hw can kill and pause.
//
// # Invariants
//
//   - With the test a Deployment closes what it has started, before anything is closed that the caller opened earlier.
//   - Engine and bus stay the caller's. A Deployment that is closed and started again serves the same data, as replaced
//     pods do.
//
// # Concurrency
//
// Start may be called from any goroutine. A Deployment belongs to one goroutine at a time; its addresses may be asked
// for from any once the pods run.
//
// # Testing
//
// A Process is tested here. The packages that use the rest test it: tests/pods, tests/cluster, tests/clients,
// tests/robustness, tests/sidebyside.
package pods
