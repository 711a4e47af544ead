// Package nullserver is an etcd v3 server that stores nothing: it answers constants, with grpc-go's defaults and
// plain protobuf.
//
// It is the ceiling of the bench: no server built on grpc-go's defaults and protobuf can answer the same clients on
// the same machine faster than one that does nothing. A server that beats it does so by encoding less or by other
// grpc settings.
//
// Invariants: a Range answers one key (the one asked for) with a value of constant size; a Txn has always succeeded
// and has one answer per operation; every lease lives; each watch is created and then stays silent; the revision
// never moves.
//
// Concurrency: the server keeps no state that changes, so its handlers need no locks.
//
// Testing: the smoke tests of bench/cmd/hwbench run their loads against it.
package nullserver
