// Package snapshot reads and writes etcd's own database files: a bbolt file with etcd's buckets, as etcdctl snapshot
// save fetches it and etcdutl snapshot restore takes it.
//
// Write makes one of a keyspace (mvcc.Dump); Open reads one, whoever has made it; Restore writes what an opened file
// holds into a keyspace that does not exist yet (mvcc.Import). Revisions, create and mod revisions, versions, leases
// and all history from the compact revision on are kept, each way.
//
// # Order
//
// The bucket key is ordered by revision, the rows of a keyspace by key. What is above the compact revision comes out of
// the log in the right order. The versions that were live at the compact revision are sorted first, in runs of
// sortBytes on disk. Their sub-revisions (the places within their requests) are no longer known: those of one revision
// are numbered in the order of their keys. No client can ask for them; HashKV covers them.
//
// # Memory and disk
//
// Write writes the pages of the database itself, one after the other and each once (pages.go): bbolt would hold the
// rows of a transaction and map the whole file. It holds sortBytes, a page of each level, and eight bytes for each
// lease that a version names. The file that it makes has no name from the first moment on (but where the system cannot
// do that), so that nothing is left of it however the process ends. TempFile and OpenTemp are that for who fetches
// files.
//
// # Files of others
//
// A file may be cut, damaged or something else: Open and Reader answer ErrDamaged or ErrForeign and never panic, also
// where bbolt would. bbolt maps files into memory; a file must not be changed while it is open.
//
// # Concurrency
//
// Everything belongs to one goroutine at a time.
//
// # Testing
//
// The tests here read and write files, whole and damaged; tests/snapshots hold them against etcdutl and a running etcd.
package snapshot
