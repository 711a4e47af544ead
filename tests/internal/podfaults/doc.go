// Package podfaults makes a pod in a test's process die, stop and go on as a real process does. It has a gate that
// everything passes which goes into or out of the pod, and the pod's view of the database behind that gate.
//
// # Invariants
//
//   - A killed pod changes nothing any more, and nobody receives anything from it. Only what it has already sent to the
//     database may still happen.
//   - A paused pod learns the outcome of what it has sent when it goes on; by a domain of the engine, that is so of a
//     Whole.
//
// # Concurrency
//
// All of it may be used from any goroutine.
//
// # Testing
//
// tests/cluster tests both (harness_test.go). It uses them in its pods, as tests/simulation does.
package podfaults
