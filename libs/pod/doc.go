// Package pod is what the three kinds of pods of a distributed deployment have in common: their flags, the order of start
// and stop, the engine, the bus, readiness, and the relaying of what a pod does not own. The kinds themselves are in
// services/{kv,watchhub,leasekeeper}; each adds the services that it owns.
//
//	flags → sockets → engine → keyspace → store → bus → relays → the kind's own parts → serve → ready
//
// # Invariants
//
//   - Every pod answers the whole etcd API: what it does not own it relays to the kind that does.
//   - All pods of a keyspace answer with the same cluster id and the same member id: to clients the deployment is one
//     member, which is reached at many addresses.
//   - A pod is ready (grpc.health.v1 and /readyz) only while it can serve what it owns. Whether the other kinds are up does
//     not count, or nobody could start first.
//   - A Pod closes what it has opened, and nothing that it was given (Deps). Nothing is kept in package variables: several
//     pods may live in one process.
//
// # Start
//
// A store that cannot be reached is waited for, without end: restarting would not bring it back. Meanwhile the sockets answer (server.Lobby):
// calls with Unavailable, health checks with alive and not ready. What does not pass by itself ends the start, and so does its context.
//
// # Stop
//
// Readiness turns off first; after --shutdown-delay, in which those who route have noticed, the listeners close, clients are told to open no
// new streams, streams (keep-alives and observers too) end with Unavailable, requests under way finish within server.StopGrace. Then leaderships are given up, and
// all is closed in the order opposite to opening.
//
// # Concurrency
//
// Open, Serve and Close belong to the one goroutine that composes a pod; Drain, SetReady, Fail and the accessors may be
// called from any.
//
// # Testing
//
// Flags, readiness and the stop are tested here; whole pods in services/*/node and tests/cluster.
package pod
