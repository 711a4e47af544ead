// Package loopback is a client of the process's own services, over memory. The Lock and Election services run etcd's
// recipes on it, as a client elsewhere would.
//
// # Invariants
//
//   - A call is made in the name of the client for whom it is made: tlsconf.FromContext returns that client.
//   - Its calls are not counted and limited like those of clients, and stopping the clients' server does not wait for
//     them: it has a gRPC server of its own.
//
// # Concurrency
//
// A Client may be used from any goroutine. Close ends the calls under way.
//
// # Testing
//
// The tests of the Lock and Election services in libs/etcdapi test it.
package loopback
