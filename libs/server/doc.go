// Package server is the outside of a Headwater process: listeners, the native gRPC server, the
// HTTP endpoints, metrics, and the order of start and stop. It knows nothing of keys and revisions; services register
// their gRPC services with it and feed it numbers.
//
// # Invariants
//
//   - gRPC is never served through net/http: that starves watches (etcd issue 15402). HTTP/2 and HTTP/1 connections
//     on one port are told apart by their first bytes, without taking those bytes off the socket where the system
//     allows it, so that grpc-go gets the real connection.
//   - The first bytes of a connection are the client's, on every port for gRPC. (RFC 9113 lets both sides begin at
//     once, and grpc-go's server would.) In nginx before 1.29.5 a server that speaks first, and then ends the
//     connection, wrecks another call: docs/adr/0006-router.md.
//   - Every socket that a process listens on is opened in one place (listen.go), and gets its TLS in one (layer.go).
//   - Nothing of a request's cost is spent on looking up metrics: counters are resolved when a service is registered.
//   - Accepting never waits for a client: connections wait for theirs in one room, from which the oldest goes
//     (waiting.go). What a connection has to say before it costs more than its descriptor, HTTP/2's SETTINGS
//     included, is said there.
//   - Bodies of gRPC requests have a deadline, and a bound of memory for all together (bodies.go). Request bodies of
//     HTTP requests are never read, and have a deadline too.
//   - Nothing that clients send becomes a label of a metric unbounded in length or number.
//   - A panic in a handler ends the process, as in etcd: a store whose invariants are in doubt must be opened again
//     (locks may be held, a group half evaluated), and the write-ahead log makes that safe.
//
// # Stop
//
// Health turns to NOT_SERVING, the listeners close, clients are told to open no new streams (GOAWAY), the drain
// function ends the watch streams with Unavailable so that clients resume elsewhere, other streams end likewise
// (GRPC.Draining), requests under way finish within StopGrace, then connections are closed, undecided ones before;
// handlers that do not notice are left behind. The caller closes the stores after Serve has returned.
//
// # Concurrency
//
// A Server is set up from one goroutine and then served; its parts take requests from any goroutine.
//
// # Testing
//
// Listeners and endpoints are tested over real sockets; the binary as a whole is tested in services/standalone.
package server
