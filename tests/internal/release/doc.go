// Package release builds programs of an earlier release from the history of this repository, for tests in which they
// run beside this one.
//
// It exports the tree of the release's commit to the user's cache directory. The tree stays there, so that Go builds it
// again only if something has changed. A test may lay packages of this tree over it (Overlay), so that the same source
// runs in both releases.
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
// tests/formats uses it, and so tests it.
package release
