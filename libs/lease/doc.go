// Package lease keeps the time of leases. The leases themselves are rows of the store, which grants and revokes them
// together with their keys; this package knows when each of them ends.
//
// # Invariants
//
//   - Never early: a lease is revoked for its age only when at least its granted time has passed, on the keeper's
//     monotonic clock, since the later of its grant's commit and the start of its last renewal that was answered with a
//     TTL. After a restart, or when another keeper takes over, every lease gets its full time again. A lease may live
//     longer than asked (docs/design.md §7; etcd's lessor does the same when a leader changes).
//   - No resurrection: a lease that has reached its deadline, or whose revoke has begun, never becomes valid again;
//     nor is a lease renewed that the store has already revoked. The exception is a revoke that the store has
//     certainly refused.
//   - A lease whose keys do not fit in a transaction of the store ends in steps (mvcc.ErrLeaseEnding). Once the store
//     has begun, the lease exists only for a grant of its id; every other request is told that it does not. This
//     keeper, or the next one, continues the steps until the row is gone, and then Revoke answers.
//   - Order: later answers agree with earlier ones. A renewal that begins after the effect of a revoke could be seen
//     is answered with 0. A renewal that begins after the effect of a grant could be seen finds the lease. An id can
//     be granted again as soon as its revoke could be seen.
//   - Only the owner writes: every grant and revoke carries the fence of the claim, in its transaction. A keeper whose
//     fence is void stops and answers nothing more.
//   - One of several keepers answers from memory only while it holds its shard (Options.Holds). It checks that after
//     it has looked at the table, so a keeper that takes the shard over claims it later. The new keeper then loads
//     every lease that was answered for, and gives it its full time.
//   - Once the keeper is ready, every lease row of the store is in the table, if all grants go through keepers. A row
//     that was revoked in another way leaves the table when its turn comes to expire, or when it is granted or
//     revoked again.
//
// # How
//
// An entry of the table has one atomic word, its deadline. A renewal loads the word and, unless the lease has
// expired, swaps in a later one. This needs one shared lock for the lookup, and no allocation or queue.
//
// Everything that involves the store (grant, revoke, expiry) first swaps the word for a mark, the latch, under the
// lock of the entry's shard. So these operations are serialised per lease: a caller that meets the latch waits until
// it is released and looks again. The latch is held during the call of the store. The client cannot cancel that call,
// so the store's answer is the outcome. If the outcome still stays unknown (the store is unavailable), the latch
// passes to the expiry loop, which tries again until the store answers. Until then no request about that lease is
// answered.
//
// The queue of deadlines is a heap of lower bounds. Renewals do not touch it; an entry that comes to the top too early
// is put back with its true deadline, so a lease costs the queue one visit per TTL however often it is renewed.
//
// The keeper revokes a bounded number of expired leases at a time, each with a request of its own, which the store
// commits in groups. A burst of 100,000 expiries takes as long as that many writes, and a client's write in between
// waits for at most Options.Revokes of them.
//
// # Shards
//
// A Keeper keeps all leases, or those that Options.Owns selects. In package shards, processes divide the leases among
// themselves. A keeper knows nothing of that except Holds, Owns and the number of the row that has its claim.
//
// # Parking
//
// A keeper that has ended hands over what it knew (Park), and the next one may continue with that under the same
// claim, with the same deadlines. The first keeper leaves out what it does not know for sure, such as a lease that is
// being revoked.
//
// # Concurrency
//
// Keeper's methods may be called from any goroutine. Keeper.Run owns the expiry loop and its workers and returns when
// all of them have. Locks are taken in the order shard, queue.
//
// # Failures
//
// While the store cannot revoke, expired leases stay, and renewals of them wait. The keeper tries the revokes again
// with growing pauses, both for each lease and for all together. See expire.go for the bounds. If damaged data
// prevents the revoke of a lease, the keeper puts that lease aside: it has expired and shows no time left, no caller
// waits for it, and it delays no other lease.
//
// # Testing
//
// The table takes the time as an argument and is tested with made-up instants against a model. The keeper reads
// time.Now and timers only and runs inside testing/synctest.
package lease
