// Package release builds programs of an earlier release from the history of this repository, for tests in which they
// meet this one.
//
// The tree of the release's commit is exported to the user's cache directory, where it stays: Go builds it anew only
// where something has changed. A test may lay packages of this tree over it (Overlay), so that one source runs in
// both.
//
// # Invariants
//
//   - Where the commit is not in the history (a shallow clone, sources without .git), the test is skipped, with a
//     text that says what was not tested. Any other failure fails it.
//
// # Concurrency
//
// Functions may be called from any goroutine that may call the test's Fatal, and by several processes at once: they
// exclude one another.
//
// # Testing
//
// By its use in tests/formats.
package release
