// Package podfaults is what makes a pod in a test's process die, stop and go on as a process does: a gate that
// everything passes which goes into or out of it, and its view of the database behind that gate.
//
// # Invariants
//
//   - A killed pod changes nothing any more, and is heard by nobody: what has been sent to the database may happen.
//   - A paused one learns the outcome of what it has sent when it goes on.
//
// # Concurrency
//
// All of it may be used from any goroutine.
//
// # Testing
//
// tests/cluster tries both (harness_test.go) and builds its pods of them, as tests/simulation does.
package podfaults
