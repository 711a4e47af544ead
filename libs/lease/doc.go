// Package lease keeps the time of leases. The leases themselves are rows of the store, which grants and revokes them
// together with their keys; here is when each of them ends.
//
// # Invariants
//
//   - Never early: a lease is revoked for its age only when at least its granted time has passed, on the keeper's
//     monotonic clock, since the later of its grant's commit and the start of its last renewal that was answered with a
//     TTL. After a restart, or when another keeper takes over, every lease gets its full time again. A lease may live
//     longer than asked (docs/design.md §7; etcd's lessor does the same when a leader changes).
//   - No resurrection: a lease that has reached its deadline, or whose revoke has begun, is never good again; nor is
//     one renewed that the store has already revoked. The exception is a revoke that the store refused for certain.
//   - A lease whose keys do not fit in a transaction of the store ends in steps (mvcc.ErrLeaseEnding). From when the
//     store has begun, nobody is told that it is there, but a grant of its id, and the steps go on, here or with the
//     next keeper, until the row is gone. Revoke answers then.
//   - Order: what was answered stays true. A renewal that begins after the effect of a revoke could be seen is answered
//     with 0; one that begins after the effect of a grant could be seen finds the lease; an id can be granted again as
//     soon as its revoke could be seen.
//   - Only the owner writes: every grant and revoke carries the fence of the claim, in its transaction. A keeper whose
//     fence is void stops and answers nothing more.
//   - One of several keepers answers from memory only while it holds its shard (Options.Holds), asked after the look
//     at the table: then whoever takes the shard over claims it later, loads every lease that was answered for, and
//     gives it its full time.
//   - Every row of the store is in the table once the keeper is ready, if all grants go through keepers. A row that was
//     revoked in another way leaves the table when its turn comes to expire, or when it is granted or revoked again.
//
// # How
//
// An entry of the table has one atomic word, its deadline. A renewal loads the word, and unless the lease has expired
// swaps in a later one: no lock but a shared one for the lookup, no allocation, no queue. Everything that involves the
// store (grant, revoke, expiry) first swaps the word for a mark, the latch, under the lock of the entry's shard, and so
// is serialised per lease; who meets the latch waits until it is released and looks again. A latch is held over the
// store's call, which is made without the client's cancellation, so that its answer is the outcome. If the outcome
// stays unknown all the same (the store is unavailable), the latch passes to the expiry loop, which tries again until
// the store has an answer. Until then nobody is told anything about that lease.
//
// The queue of deadlines is a heap of lower bounds. Renewals do not touch it; an entry that comes to the top too early
// is put back with its true deadline, so a lease costs the queue one visit per TTL however often it is renewed.
//
// Expired leases are revoked a bounded number at a time, each as a request of its own, which the store commits in
// groups: a burst of 100,000 expiries takes as long as that many writes, and a client's write in between waits for
// at most Options.Revokes of them.
//
// # Shards
//
// A Keeper keeps all leases, or those that Options.Owns selects. In package shards, processes share the leases out
// among themselves; a keeper knows of that no more than Holds, Owns and the number of the row that its claim is in.
//
// # Parking
//
// A keeper that has ended tells what it knew (Park), and the next one may go on with that under the same claim:
// deadlines move neither way. What it does not know for sure, such as a lease that is being revoked, it does not
// tell.
//
// # Concurrency
//
// Keeper's methods may be called from any goroutine. Keeper.Run owns the expiry loop and its workers and returns when
// all of them have. Locks are taken in the order shard, queue.
//
// # Failures
//
// While the store cannot revoke, expired leases stay and renewals of them wait; they are tried again with growing
// pauses, one by one and all together. See expire.go for the bounds. A lease that damaged data keeps from being
// revoked is put aside: it has expired, shows no time left, nobody waits for it, and it holds up no other.
//
// # Testing
//
// The table takes the time as an argument and is tested with made-up instants against a model. The keeper reads
// time.Now and timers only and runs inside testing/synctest.
package lease
