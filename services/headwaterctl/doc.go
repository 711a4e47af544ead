// Command headwaterctl administers a Headwater through its admin API (protos/headwater/admin/v1), in the style of
// etcdctl. It manages keyspaces and their settings. It shows what they hold and do, their revision logs and their rows,
// and checks the rows. It shows what a deployment does now (top). It makes and restores snapshots and backups,
// migrates, and reads and writes JSON lines.
//
// # Invariants
//
//   - It reads and writes nothing of a server but through the admin API, the status page (top), or as any client of
//     etcd's API (snapshot save, backup save and run, export, import, the other side of a migration): it needs no
//     access to the store. snapshot restore and backup restore make a data directory that no server has,
//     or snapshot restore a keyspace through the admin API.
//   - Exit codes are etcdctl's: 0, 1 for what has failed, 2 where no endpoint answers, 5 when interrupted, 128 for a
//     command line that is wrong.
//   - Of several endpoints the first that answers is used, for the whole command.
//   - What a server sends as bytes is shown quoted or in hexadecimal, but in JSON, where it is base64. Text that
//     would leave its line of a table is quoted too.
//   - What could not be written is an error. A second interrupt ends the process at once.
//
// # Concurrency
//
// A command is one goroutine. Migrations report progress from several (progressLine), and top reads keys in another.
//
// # Testing
//
// tests/keyspaces and tests/snapshots run the built binary against built servers. What servers do seldom is tested
// here, against small ones.
package main
