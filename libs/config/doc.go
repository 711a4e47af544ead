// Package config reads and checks the configuration of a process. It comes from the command line and the environment,
// or from a configuration file, with etcd's names and defaults. One table (flagtable.go) has every flag of every kind
// of process: etcd's and our own. A configuration file has the same names.
//
// # Invariants
//
//   - Every flag of etcd 3.7 is known. If a flag asks for security that Headwater does not have, the start fails. If a
//     flag means nothing here, or nothing to this kind of process, it is accepted, and one warning names all such
//     flags.
//   - A flag has one row: its name, default, help, the kinds of processes that take it, and what the others do with it.
//   - Parse names everything that it refuses in one error.
//   - What Parse accepts, Validate accepts.
//   - docs/compatibility.md shows the table as it is.
//
// # Concurrency
//
// A Config is a value. Nothing is kept between calls.
//
// # Testing
//
// Parsing is table-tested and fuzzed; the table is checked against etcd's own list of flags and against its
// documentation.
package config
