// Package snapshot reads and writes etcd's own database files: a bbolt file with etcd's buckets, as etcdctl snapshot
// save fetches it and etcdutl snapshot restore takes it.
//
// Write makes such a file from a keyspace (mvcc.Dump). Open reads one, whoever has made it. Restore writes the content
// of an opened file into a keyspace that does not exist yet (mvcc.Import). Both directions keep revisions, create and
// mod revisions, versions, leases, and the whole history from the compact revision on.
//
// # Order
//
// The bucket key is ordered by revision, and the rows of a keyspace by key. What is above the compact revision comes
// out of the log in the right order. The versions that were live at the compact revision are sorted first, in runs of
// sortBytes on disk. Their sub-revisions (the places within their requests) are not known any more, so the versions of
// one revision are numbered in the order of their keys. No client can ask for sub-revisions, but HashKV covers them.
//
// The values of the log that are kept apart lie in the order of keys too. An engine of this process reads them in that
// order, and they are sorted as well, in windows of windowBytes of the log (history.go).
//
// # Memory and disk
//
// Write writes the pages of the database itself, one after another and each once (pages.go). bbolt would hold the rows
// of a transaction in memory and map the whole file. Write holds sortBytes or windowRefs and windowSort, one page of
// each level, and eight bytes for each lease that a version names. While it writes a window, up to windowBytes lie on
// disk beside the file. Where the system allows it, the file never has a name, so that nothing is left however the
// process ends. TempFile and OpenTemp do the same for code that fetches files.
//
// # Files of others
//
// A file may be cut, damaged, or something else. Open and Reader answer ErrDamaged or ErrForeign and never panic, even
// where bbolt would. bbolt maps files into memory, so a file must not be changed while it is open.
//
// # Concurrency
//
// Everything belongs to one goroutine at a time.
//
// # Testing
//
// The tests here read and write files, intact and damaged. tests/snapshots compares with etcdutl and a running etcd.
package snapshot
