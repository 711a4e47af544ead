// Package shards spreads the leases of a keyspace over several processes (pods). Each pod keeps the time of some
// shards, with one lease.Keeper per shard, and forwards requests for the other shards. To its clients every pod has
// all leases.
//
// # Who keeps what
//
// Each pod renews a row of its own and reads the rows of the others. If a pod's row has not changed for the pod's
// time to live, on the reader's own clock, the reader counts that pod as dead. Each shard prefers one of the live
// pods (rendezvous hashing), and each pod claims the shards that prefer it, by an election per shard. All pods
// observe all elections. So they know where to forward requests, and when a pod dies, the pod that is preferred next
// need not wait once more. There are few shards, so the pods' parts are uneven: one in fourteen sets of four pods has a
// pod that no shard prefers. It forwards everything until another pod goes.
//
// Pods may disagree for a while about which pods are alive. That is harmless, because the election decides. If a pod
// owns a shard that prefers another pod, it hands the shard over only when the other pod's row says that it wants the
// shard. So no shard is without an owner for longer than a claim takes.
//
// Places does the same for shards of any other work: the owner of a shard does its work, and all pods know the owner.
//
// # Invariants
//
//   - What lease promises holds across owners: no lease ends early, none comes back. See Keeper.Run, Keeper.Renew and
//     Term.Holds for why: a keeper answers from memory only while no other can have claimed its shard, and what it
//     writes carries the fence of its claim.
//   - As long as one pod is alive and reaches the store, every shard has an owner, or gets one within the time to
//     live plus one poll.
//   - A request is forwarded at most once, and marked (lease.ForwardedKey): a pod that gets a marked one for a shard
//     that it does not keep answers that it does not (Unavailable; lease.NotOwnedTTL to a renewal).
//   - Requests that may be repeated (renewals, reads and grants) are repeated until their shard's owner answers or
//     patience ends. At most one of the attempts of a grant makes the lease. If the lease exists when a grant is
//     attempted again, the outcome is reported as unknown. The outcome of a forwarded revoke that was not answered is
//     unknown too.
//
// # What it costs
//
// All elections of a pod, and its member row, go in one transaction a beat (election.Group): a quarter of the time to
// live, so that a pod's death is noticed and its shards are taken over in less than 2 s.
//
// # Rows
//
//	<prefix> 's' <shard> …   the election of a shard (libs/election)
//	<prefix> 'm' <address>   a member: format, incarnation, count, time to live, wanted shards
//
// # Forwarding
//
// Forwarded calls go to the Lease service that the owner offers to everybody. Renewals to one pod share a few streams;
// see peer. An owner that stops answering is waited for only until another takes over. Dial's connections should
// notice by themselves a pod that is alive to the store but not to this one.
//
// # Hand-over
//
// Drain removes the member row first: the others then want this pod's shards, and get each from a keeper that answers
// up to the release. A pod that is killed is noticed after the time to live.
//
// # Concurrency
//
// Requests run on their callers' goroutines. Run has one goroutine per shard and one for the beats; a stream to a peer
// has two while it lives. Locks: Shards.mu, shard.mu, renewals.mu and loader.mu; none is taken while another is held.
//
// # Testing
//
// Placement and the view of the members have no clock (place_test.go). The rest runs as a cluster of pods with real
// gRPC on one engine (libs/engine/testengine) inside testing/synctest: pods are killed, paused, drained and added
// while clients hold leases, and what they were told is held against the store.
package shards
