// Command headwater is Headwater in one process: the etcd v3 API on a directory of its own. It takes etcd's flags and
// environment variables. libs/compose has its parts.
//
// # Invariants
//
//   - A start that fails prints one line and leaves the data directory as it was.
//   - Exit codes: 0 after a signal, 1 for an error, 2 for wrong flags and variables.
//
// # Testing
//
// The tests build the binary and run it as users do.
package main
