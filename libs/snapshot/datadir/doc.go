// Package datadir restores a snapshot into the data directory of a standalone server that is not running.
//
// # Invariants
//
//   - The store gets its name when it is complete: it is written under the name Restoring and renamed at the end. A
//     server refuses a directory that has Restoring and no store, and a repeated restore starts again.
//   - Nothing is synced before the store is complete, and everything is synced before the store gets its name.
//   - An existing store is never touched.
//   - Only one process at a time uses a data directory.
//
// # Concurrency
//
// A restore belongs to one goroutine. The lock of the directory keeps other processes out.
//
// # Testing
//
// The tests here interrupt restores at any moment. tests/snapshots kills processes, and starts servers on the result.
package datadir
