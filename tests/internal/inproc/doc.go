// Package inproc serves etcd's KV, Watch and Lease API in this process over a storage engine that the test made: with
// faults, with sparse stamps, with FoundationDB's limits, on a file system that loses power. It has the parts of the
// standalone service, except flags and HTTP.
//
// The server listens on a loopback address. After a crash a test can give the address to the next server on the same
// data.
package inproc
