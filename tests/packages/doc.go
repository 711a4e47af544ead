// Package packages checks that docs/architecture.md draws the packages as they are: who imports whom, which floor each
// stands on, where what is not ours is used, and what binaries do not link.
//
// # Invariants
//
//   - The code is read with all its build tags, tests left out: a build that nobody has tried today is drawn too.
//
// # Concurrency
//
// None.
//
// # Testing
//
// The parsers of the drawing are tested on drawings that are wrong.
package packages
