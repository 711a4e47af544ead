// Package inproc serves etcd's KV, Watch and Lease API in this process over a storage engine that the test made: with
// faults, with sparse stamps, with FoundationDB's limits, on a file system that loses power. It is put together as
// the standalone service is, without its flags and HTTP.
//
// The server listens on a loopback address, which can be handed to the next server on the same data after a crash.
package inproc
