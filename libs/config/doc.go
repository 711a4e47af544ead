// Package config is what a process is told: command line and environment, or a configuration file, with etcd's names
// and defaults, checked as a whole. One table (flagtable.go) has every flag of every kind of process, etcd's and our
// own; a configuration file has the same names.
//
// # Invariants
//
//   - Every flag of etcd 3.7 is known. One that asks for security which is not there (tokens) stops the start;
//     one that means nothing here, or nothing to this kind of process, is accepted, and all of those are named in one
//     warning.
//   - A flag has one row: its name, default, help, which kinds take it, and what becomes of it where it is not taken.
//   - What is refused is named at once, all of it.
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
