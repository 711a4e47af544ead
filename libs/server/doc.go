// Package server is the network side of a Headwater process: listeners, the native gRPC server, the HTTP endpoints,
// metrics, and the order of start and stop. It knows nothing of keys and revisions. Services register their gRPC
// services with it and supply the numbers for metrics.
//
// # Invariants
//
//   - gRPC is never served through net/http, which starves watches (etcd issue 15402). HTTP/2 and HTTP/1 connections on
//     one port are told apart by their first bytes. Where the system allows it, these bytes stay in the socket, so that
//     grpc-go gets the real connection.
//   - On every port for gRPC the client sends the first bytes of a connection. (RFC 9113 lets both sides begin at
//     once, and grpc-go's server would.) With nginx before 1.29.5, a server that sends first and then ends the
//     connection breaks another call: docs/adr/0006-router.md.
//   - One place opens every socket that a process listens on (listen.go), and one place adds TLS (layer.go).
//   - Requests never look up metrics: counters are resolved when a service is registered.
//   - Accepting never waits for a client. New connections stay in one waiting room until their client has sent its
//     first bytes, HTTP/2's SETTINGS included; until then a connection costs little more than its descriptor. When
//     the room is full, the oldest connection is closed (waiting.go).
//   - Bodies of gRPC requests have a deadline, and all of them together have a bound of memory (bodies.go). Bodies of
//     HTTP requests are never read, and have a deadline too.
//   - Where something that clients send becomes a label of a metric, its length and the number of values are bounded.
//   - A panic in a handler ends the process, as in etcd: a store whose invariants are in doubt must be opened again
//     (locks may be held, a group half evaluated), and the write-ahead log makes that safe.
//
// # Stop
//
// A stop has these steps. Health turns to NOT_SERVING. The listeners close. Clients are told to open no new streams
// (GOAWAY). The drain function ends the watch streams with Unavailable so that clients resume elsewhere, and other
// streams end likewise (GRPC.Draining). Requests under way finish within StopGrace, and then all connections are
// closed; those that have not yet shown which protocol they speak are closed earlier. Handlers that do not notice are
// left behind. The caller closes the stores after Serve has returned.
//
// # Concurrency
//
// One goroutine sets up a Server and serves it. Its parts take requests from any goroutine.
//
// # Testing
//
// Listeners and endpoints are tested over real sockets; the binary as a whole is tested in services/standalone.
package server
