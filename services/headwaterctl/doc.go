// Command headwaterctl administers a Headwater through its admin API (protos/headwater/admin/v1), in the style of
// etcdctl. It manages keyspaces and their settings. It shows what they hold and do, their revision logs and their rows,
// and checks the rows. It shows what a deployment does now (top). It makes and restores snapshots and backups,
// migrates, and reads and writes JSON lines.
//
// # Invariants
//
//   - It reads and writes a server only through the admin API, through the status page (top), or as a client of etcd's
//     API (snapshot save, backup save and run, export, import, the other side of a migration). It needs no access to
//     the store. snapshot restore and backup restore create a data directory that no server uses.
//   - Exit codes are etcdctl's: 0, 1 for an error, 2 if no endpoint answers, 5 after an interrupt, 128 for a wrong
//     command line.
//   - Of several endpoints it uses the first that answers, for the whole command.
//   - Bytes from a server are shown quoted or in hexadecimal; in JSON they are base64. Text that would leave its line
//     of a table is quoted too.
//   - Output that cannot be written is an error. A second interrupt ends the process at once.
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
