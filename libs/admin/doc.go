// Package admin serves the admin API (protos/headwater/admin/v1): the table of keyspaces, what keyspaces hold and do,
// and what is stored in them. It is for operators: whoever can connect to its listener may do everything.
//
// # Invariants
//
//   - A setting that nothing would apply is refused and never stored.
//   - A store that belongs to one server has a keyspace without a row in the table (Host.First). It is listed, but it
//     cannot be created, changed, deleted or renamed, and no keyspace in the table may have its name.
//   - Lists of keyspaces read a few rows of each and open none. Reading a log opens its keyspace, as a client's call
//     does.
//   - A keyspace that is restored from a file has no name before it is complete. If the client goes away or the process
//     is killed, the rows are cleared.
//   - Answers are bounded: lists and usage by page, logs and rows by stream. Only a log entry may be larger than what
//     gRPC's clients take by default (4 MiB): it is one message, as large as the changes of its request.
//
// # Concurrency
//
// The services may be called from any number of goroutines. They hold no lock, and no state except what is in Options.
//
// # Testing
//
// tests/keyspaces tests them in one process and through the built binaries.
package admin
