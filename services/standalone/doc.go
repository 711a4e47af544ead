// Command headwater is Headwater in one process: the etcd v3 API over a directory of its own. It takes etcd's flags and
// environment variables. What it is made of stands in libs/compose.
//
// # Invariants
//
//   - A start that fails prints one line and leaves the data directory as it was.
//   - Exit codes: 0 after a signal, 1 for what went wrong, 2 for flags and variables.
//
// # Testing
//
// The tests build the binary and look at it from outside.
package main
