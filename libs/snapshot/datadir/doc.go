// Package datadir restores a snapshot into the data directory of a standalone server that does not run.
//
// # Invariants
//
//   - The store gets its name when it is whole: it is written as Restoring, and renamed at the end. A server refuses a
//     directory with Restoring in it and no store, and a repeated restore begins anew.
//   - Nothing is synced before the store is whole, and everything before it gets its name.
//   - A store that is there is never touched.
//   - One process at a time has a data directory.
//
// # Concurrency
//
// A restore belongs to one goroutine; the lock of the directory keeps others out.
//
// # Testing
//
// The tests here end restores at any moment; tests/snapshots does so with processes, and starts servers on the result.
package datadir
