// Package rawfdb is what puts cost on FoundationDB without Headwater: lanes, each of which reads and writes the rows
// of one put, or of a group of puts, in one transaction after the other, with FoundationDB's own Go binding. It
// exists behind the build tag foundationdb.
//
// The rows are those of docs/formats.md with their sizes, not their contents: the record and the head are read;
// record, log entry, head and the lane's row are written, the latter three with versionstamps. The value of a put is
// written twice, into record and entry.
//
// A bare put is the value in a row, and nothing else: what FoundationDB takes at most from who fills it.
//
// Testing: `make bench-fdb` runs it; there is nothing to test without a cluster.
package rawfdb
