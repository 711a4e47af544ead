// Package rawfdb measures what puts cost on FoundationDB without Headwater. It has lanes. Each lane makes one
// transaction after the other, and each transaction reads and writes the rows of one put, or of a group of puts, with
// FoundationDB's own Go binding. The package exists behind the build tag foundationdb.
//
// The rows have the sizes of those in docs/formats.md, but not their contents. A transaction reads the record and the
// head. It writes the record, the log entry, the head and the lane's row, the latter three with versionstamps. It
// writes the value of a put twice, into the record and into the entry.
//
// A bare put writes the value into a row and does nothing else. It is the fastest way to fill FoundationDB.
//
// Testing: `make bench-fdb` runs it; there is nothing to test without a cluster.
package rawfdb
