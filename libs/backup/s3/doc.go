// Package s3 is a bucket of an S3-compatible service as a place for backups.
//
// # Invariants
//
// An object is there as a whole or not at all: the service shows it when its last part has come. Parts of uploads that
// were cut off are the service's to remove (a lifecycle rule, where it does not by itself).
//
// # Concurrency
//
// A Bucket may be used by several goroutines.
//
// # Testing
//
// Against a server of another's that runs in the test process.
package s3
