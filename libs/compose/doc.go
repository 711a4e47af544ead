// Package compose makes servers from parts: the standalone server, which is a kv, a hub and a lease keeper in one
// process on its own store, and the three kinds of pods, which share a store and each own some of the services. One
// table, in service.go, lists the parts of each service.
//
//	flags → sockets → engine, bus, relays → keyspace: store → alarms → parts → serve → parts begin → ready
//	└──────────── Deployment ────────────┘  └────────── Keyspace ──────────┘
//
// A process has one Deployment, and one Keyspace for each keyspace that it serves. A part (kv.go, watchhub.go,
// leasekeeper.go, quota.go) is what a service owns of a keyspace. Where a standalone server does alone what pods
// share by elections and the bus, each of the two forms has its own part. The caller provides the store and the bus
// (Parts), from the packages embedded, shared and hubcache, so that each binary links only what it needs.
//
// # Invariants
//
//   - Every process answers the whole etcd API: what a pod does not own it relays to the kind that does.
//   - All pods of a keyspace answer with the same cluster id and the same member id: to clients the deployment is one
//     member, which is reached at many addresses.
//   - A pod is ready (grpc.health.v1 and /readyz) only while it can serve what it owns. Whether the other kinds are
//     up does not count, or nobody could start first.
//   - A server closes what it has opened, and nothing that it was given. Package variables hold no state, so several
//     servers may live in one process.
//   - Pods hold no state that cannot be read again: any of them may be killed at any time, and any number may run.
//     Some work (compaction, the tailer, a shard of leases) is meant for one pod at a time; if two pods do it for a
//     moment, nothing goes wrong.
//   - Lock and Election use a client of this process. The client calls the process's own services directly; other
//     calls are relayed as for any client.
//   - A pod obeys an alarm that was set or cleared through another pod within alarm.Every; it shows the alarm, and
//     can clear it, at once.
//   - All pods that write a keyspace keep to its limits of bytes, keys and leases together: they read the same
//     counters, in their groups' transactions, and one pod at a time grants leases. Each pod applies the other limits
//     by itself. Pods have no quota other than the limit of bytes.
//   - I6: a hub gets every entry, whatever the bus and the tailers do; see libs/feed. A hub that has fallen behind
//     ends its streams with Unavailable, and is not ready until it has caught up. Clients resume on another hub, at
//     their next revision.
//   - The disk of a watchhub pod holds a cache and nothing else.
//   - A leasekeeper pod is ready once every shard has had an owner.
//   - A call is never passed to a pod that might answer it from another keyspace. Pods serve only the first keyspace
//     until the feature keyspaces is set on it, and releases that do not know other keyspaces refuse a keyspace with
//     that feature.
//   - While a keyspace follows another one it has no lease keeper and no compactor, and stays open.
//   - The leases of a keyspace are parked, with their deadlines, only when no call can be answered from them any
//     more; otherwise they are claimed and read again.
//
// # Keyspaces
//
// A call is for the keyspace that its host or metadata names, with --user-at-keyspace also the user of an Authenticate
// and the token that this has made, or otherwise for the first keyspace, which is open as long as the process runs. A
// table has the other keyspaces. The first call opens such a keyspace; it is closed when it has been idle and no work
// of its own is under way.
//
// Who may enter is asked for each call (entry.go): by the client's certificate before anything is opened, by its user
// in the keyspace itself. When the rule changes, a keyspace of the table is closed and opened again; the first gets
// another door (door.go), and what lasts in it ends with the one before. What the operators' API, health checks and the
// process itself do in a keyspace comes through no door.
//
// Leases and auto compaction work while the keyspace is closed. A closed keyspace consists of rows, of one entry in a
// heap if it has leases (parking.go), and in a standalone server of one more entry if there is something to compact
// (owncompactions.go). On pods, this work is done by shard, by pods that are elected to the shards (many.go,
// leasehost.go, compactions.go).
//
// Pods serve the keyspaces of the table that all pods below their root serve. Each pod does its own kind's part, and
// passes on other calls with the keyspace's name (pass.go). If a pod only passes calls on, it does not open the
// keyspace.
//
// What the clients of one keyspace do, or what fails in it, ends no calls of other keyspaces (I10). Memory for
// answers is bounded over all keyspaces. Keyspaces take turns by weight at what they share (shares.go), on pods only
// while there are several. A keyspace that is being closed can be opened again only after it has been closed. Calls
// hold keyspaces.mu for a moment, and read or wait for nothing under it.
//
// # Start
//
// If pods cannot reach their shared store, they wait for it without end, because a restart would not bring it back.
// Meanwhile the sockets answer (server.AnswerNotReady): calls get Unavailable, and health checks say alive but not
// ready. An error that does not pass by itself ends the start, and so does the end of its context. A standalone start
// that fails leaves the data directory as it was.
//
// # Stop
//
// Readiness turns off first. During --shutdown-delay routers notice this, and parts hand over what other pods can
// take. Then the listeners close, clients are told to open no new streams, and streams (keep-alives and observers
// too) end with Unavailable. Requests under way finish within server.StopGrace. Then the process gives up its
// leaderships, and closes everything in the opposite order to opening. A standalone server ends within 3 s of a
// signal; if its store is not closed by then, it is left as after a crash. A store that has failed ends the process;
// what it has acknowledged is on disk.
//
// # Concurrency
//
// Start and Close belong to the one goroutine that composes a server; Drain, SetReady, Fail and the accessors may be
// called from any. The follower's goroutine is the only one that makes and replaces the hub of a watchhub pod.
//
// # Testing
//
// Readiness, the start, the stop and a stalled hub are tested here; whole pods in tests/pods and tests/cluster, the
// standalone binary in services/standalone.
package compose
