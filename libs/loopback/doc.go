// Package loopback is a client of the process's own services, over memory: the Lock and Election services run etcd's
// recipes on it, as a client elsewhere would.
//
// # Invariants
//
//   - Its calls are those of the client for whom they are made: that one is who tlsconf.FromContext tells.
//   - Its calls are neither counted nor limited as those of clients, and a stop of the server that clients use does not
//     wait for them: it has a gRPC server of its own.
//
// # Concurrency
//
// A Client may be used from any goroutine. Close ends the calls under way.
//
// # Testing
//
// By the Lock and Election services in libs/etcdapi.
package loopback
