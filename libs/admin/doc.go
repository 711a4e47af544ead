// Package admin serves the admin API (protos/headwater/admin/v1): the table of keyspaces, what keyspaces hold and do,
// and what is stored in them. It is for operators: whoever can connect to its listener may do everything.
//
// # Invariants
//
//   - A setting that nothing would obey is refused, and never stored.
//   - A store that a server has to itself holds a keyspace that has no row in the table (Host.First). It is shown,
//     and can be neither created nor changed, deleted or renamed; nothing in the table is called as it is.
//   - What lists keyspaces reads few rows of each and opens none. What reads a log opens its keyspace, as a client's
//     call does.
//   - A keyspace that is made of a file has no name before it is whole. What a client that goes away, or a process that
//     is killed, has left of one is cleared. On pods it waits to be gone on with, until it is deleted or its name is
//     taken.
//   - Answers are bounded: lists and usage by page, logs and rows by stream. Only an entry of a log may be larger than
//     gRPC's clients take by default (4 MiB): it is one message, as large as what its request has changed.
//
// # Concurrency
//
// The services may be called from any number of goroutines. They hold no lock, and no state except what is in Options.
//
// # Testing
//
// tests/keyspaces tests them in one process and through the built binaries.
package admin
