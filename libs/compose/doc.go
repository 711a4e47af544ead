// Package compose makes servers from parts: the standalone server, which is a kv, a hub and a keeper in one process
// on a store of its own, and the three kinds of pods, which share a store and each own some of the services. What
// each service is made of stands in one table, in service.go.
//
//	flags → sockets → engine, bus, relays → keyspace: store → alarms → parts → serve → parts begin → ready
//	└──────────── Deployment ────────────┘  └────────── Keyspace ──────────┘
//
// A Deployment is what a process has once, a Keyspace what it has once for each keyspace that it serves. A
// part (kv.go, watchhub.go, leasekeeper.go, quota.go) is what a service owns of a keyspace; where standalone does
// alone what pods share by elections and the bus, there is a part for either form. The store and the bus themselves
// come from outside (Parts), so that each binary links what it needs: packages embedded, shared and hubcache have
// them.
//
// # Invariants
//
//   - Every process answers the whole etcd API: what a pod does not own it relays to the kind that does.
//   - All pods of a keyspace answer with the same cluster id and the same member id: to clients the deployment is one
//     member, which is reached at many addresses.
//   - A pod is ready (grpc.health.v1 and /readyz) only while it can serve what it owns. Whether the other kinds are
//     up does not count, or nobody could start first.
//   - A server closes what it has opened, and nothing that it was given. Nothing is kept in package variables: several
//     servers may live in one process.
//   - Pods hold no state that cannot be read again: any of them may be killed at any time, and any number may run.
//     What one at a time does (compaction, the tailer, a shard of leases) nobody does wrong if there are two for a
//     moment.
//   - Lock and Election run on a client of this process: what is its own is called directly, the rest is relayed as for
//     any client.
//   - An alarm that was set or cleared through another pod is obeyed within alarm.Every; it is shown, and can be
//     cleared, at once.
//   - All pods that write a keyspace keep to its limits of bytes, keys and leases together: they look at the same
//     counters, in their groups' transactions, and one pod at a time grants leases. Other limits are each pod's own.
//     Pods have no quota beside the limit of bytes.
//   - I6: what a hub gets is complete, whatever the bus and the tailers do; see libs/feed. One that has fallen behind
//     ends its streams with Unavailable and is not ready until it has caught up: clients resume at their next
//     revision on another.
//   - The disk of a watchhub pod holds a cache and nothing else.
//   - A leasekeeper pod is ready once every shard has had an owner.
//   - Nothing is passed on to pods that might take a call for another keyspace's: pods serve no keyspace but the first
//     before the feature keyspaces is set in the first, which releases refuse that do not know the others.
//   - A keyspace that follows another one has no lease keeper and no compactor before that ends, and stays open.
//   - The leases of a keyspace are parked, with their deadlines, only when no call can be answered from them any more;
//     else they are claimed and read again.
//
// # Keyspaces
//
// A call is for the keyspace that its host or metadata names, else for the first, which is open as long as the process.
// There are others in a table: the first call opens one, and it is closed when it has been idle and nothing in it goes
// on by itself. Leases and auto compaction go on without it: a closed keyspace is rows, an entry in a heap if it has
// leases (parking.go), and in a standalone server one more if there is something to compact (owncompactions.go). On
// pods they do in shards that pods are elected to (many.go, leasehost.go, compactions.go). Pods serve those of the
// table that all pods below their root serve, each its own kind's
// part, and pass on the rest with the keyspace's name (pass.go); where that is all, they do not open it. What one
// keyspace's clients do, or what fails in it, ends no other's calls (I10); memory for answers is bounded over all.
// Keyspaces take turns by weight at what they share (shares.go); on pods only while there are several. One that is
// being closed is opened again only when it is closed. Calls take keyspaces.mu for a moment, and nothing is read or
// waited for under it.
//
// # Start
//
// A store that pods share and that cannot be reached is waited for, without end: restarting would not bring it back.
// Meanwhile the sockets answer (server.AnswerNotReady): calls with Unavailable, health checks with alive and not
// ready. What does not pass by itself ends the start, and so does its context. A standalone start that fails leaves
// the data directory as it was.
//
// # Stop
//
// Readiness turns off first; after --shutdown-delay, in which those who route have noticed and parts hand over what
// others can take, the listeners close, clients are told to open no new streams, streams (keep-alives and observers
// too) end with Unavailable, requests under way finish within server.StopGrace. Then leaderships are given up, and
// all is closed in the order opposite to opening. A standalone server ends within 3 s of a signal: a store that is
// not closed by then is left as after a crash. A store that has failed ends the process; what it has acknowledged is
// on disk.
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
