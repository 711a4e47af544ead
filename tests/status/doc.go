// Package status tests the status page of a server: what it shows of keyspaces is what the viewer's own client would
// get.
//
// # Invariants
//
//   - Whatever a viewer may not do by etcd's API he may not do here.
//
// # Concurrency
//
// None. What needs a browser is in tests/status/browser, a module of its own.
package status
