// Package status tests the status page of a server. It must show of keyspaces what the viewer's own client could read.
//
// # Invariants
//
//   - A viewer may do nothing on the page that is not allowed through etcd's API.
//
// # Concurrency
//
// None. The tests that need a browser are in tests/status/browser, a module of its own.
package status
