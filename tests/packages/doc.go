// Package packages checks that docs/architecture.md describes the packages as they are: which package imports which, on
// which floor of the drawing each stands, which packages use which external module, and what the binaries do not link.
//
// # Invariants
//
//   - The test reads the code with all its build tags and without its tests, so that it also covers builds that nobody
//     makes today.
//
// # Concurrency
//
// None.
//
// # Testing
//
// The parsers of the drawing are tested on wrong drawings.
package packages
