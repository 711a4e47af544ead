// Command headwater is Headwater in one process: the etcd v3 API over a directory of its own. It takes etcd's flags and
// environment variables.
//
// The process is a composition of the libraries and holds nothing of its own but their order:
//
//	flags → sockets → engine → keyspace → watch hub → leases → services → serve → (the same backwards)
//
// # Invariants
//
//   - A start that fails prints one line and leaves the data directory as it was. The directory of an etcd is never
//     written to.
//   - A store that has failed ends the process (exit code 1): what it has acknowledged is on disk.
//   - After a signal the process ends within 3 s; a store that is not closed by then is left as after a crash.
//   - Exit codes: 0 after a signal, 1 for what went wrong, 2 for flags and variables.
//
// # Testing
//
// The tests build the binary and look at it from outside.
package main
