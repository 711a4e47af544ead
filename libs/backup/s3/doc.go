// Package s3 uses a bucket of an S3-compatible service as a place for backups.
//
// # Invariants
//
// An object exists completely or not at all, because the service shows it only after its last part has arrived. The
// service removes the parts of an upload that was cut off. Some services need a lifecycle rule for this.
//
// # Concurrency
//
// A Bucket may be used by several goroutines.
//
// # Testing
//
// The tests run against another project's S3 server inside the test process.
package s3
