// Command headwaterctl administers a Headwater through its admin API (protos/headwater/admin/v1), in the manner of
// etcdctl: keyspaces and their settings, what they hold and do, their revision logs, their rows, and a check of those.
//
// # Invariants
//
//   - It reads and writes nothing but through the admin API: it needs no access to the store.
//   - Exit codes are etcdctl's: 0, 1 for what has failed, 2 where no endpoint answers, 5 when interrupted, 128 for a
//     command line that is wrong.
//   - Of several endpoints the first that answers is used, for the whole command.
//   - What a server sends as bytes is shown quoted or in hexadecimal, but in JSON, where it is base64.
//
// # Concurrency
//
// None.
//
// # Testing
//
// Here, against a server in the same process; in tests/keyspaces the admin API itself.
package main
