// Package mvcc is etcd's data model on an engine: range, put, delete, transactions, compaction and leases as rows of
// one keyspace, written by group commit and read at any revision that has not been compacted. docs/formats.md has the
// rows.
//
// # Writes
//
// Requests that change something wait in a queue. A lane takes a group of them and runs it as one engine transaction:
// it reads what the group needs in parallel, evaluates the requests in order against those reads and an overlay of
// the group's own changes, builds one set of mutations, commits, and answers when the commit is durable. The
// revisions of a group are not known before its commit, so evaluation works with pending ones (revlog.Pending: the
// request's index in the group), which are settled from the commit's stamp.
//
// When a group conflicts, the lane evaluates it again. After the second conflict in a row the lane cuts the group in
// half, so that a hot key cannot starve the rest. A request that meets damaged data is answered with that error, and
// the group continues without it (damage.go). If the outcome of a commit is unknown, the lane reads its own row to
// find out (I5).
//
// On a pipelined engine the lane evaluates the next group while the last one syncs. On other engines several lanes
// keep groups in flight. Requests that touch the same keys never go to two lanes at once: they wait in a line at each
// key (schedule.go), and cost nothing until their turn comes, however many wait.
//
// A request that has been answered early, because its client has gone or its time is over, leaves the queue within
// one sweep (250 ms). The engine counts as out of reach when a group has tried for a second (outageAfter). During
// such an outage a request may wait one second instead of seven, and a group is tried only once. The first commit
// ends the outage.
//
// On an engine.RecentBeginner a group is first evaluated on a recent state, which may be outdated; recent.go says
// when the commit proves that the state was current.
//
// The Store measures where the time of a write goes, for metrics (writestats.go) and for the stages that the
// request's context may carry (package timing). It reads the clock twice per request, and five times per group.
//
// The number of rows that the evaluation of one request may visit is bounded (budget.go), and the evaluation ends
// when nobody waits for the request any more. If there is a single pipelined lane, a request that visits more than a
// millisecond's worth of rows leaves its group for the heavy lane (heavy.go). The heavy lane evaluates it in parallel
// with the groups of the first lane, which it holds up only for the commit. The engine detects conflicts between the
// two lanes.
//
// On an engine with limits, the Store refuses a put before it is queued if the resulting key could not be replaced,
// deleted or revoked later. It refuses a delete as soon as the delete has visited more than a transaction can write
// (fit.go). If the engine itself refuses a commit, the group is split until the request at fault is alone, and that
// request gets the engine's error.
//
// The lane reads everything that the requests of a group are sure to need together, before it evaluates the first one
// (ahead.go). On a remote engine each separate read is a round trip, so no code may read key by key.
//
// # Reads
//
// A read takes a snapshot of durable state and never waits for a sync. Readers of one state of a remote engine share
// the read of its head (stateread.go). At the head a read gets idx rows, and val rows for large values. At an older
// revision it merges them with the hist rows; a small value of those is in the log, and a larger one is still in its
// val rows. A list that outlives its snapshot continues in a new one, at the same revision.
//
// Groups enforce the bounds of bytes and keys. A Store that is the only writer has both sums in memory. If others
// write too, a group reads the counters in its own transaction: the counter of bytes without a conflict, and the
// counters of keys with a conflict when the bound is near (keys.go).
//
// A count adds up counters of buckets of keys, and walks over the keys of two buckets at most (count.go). Groups add to
// the counters without reading them (buckets.go). Splits and merges of buckets are separate transactions of two steps
// each. No group makes them fail (keepbuckets.go). On a remote engine they make only a group conflict that has not
// seen the first step and lands when the second may begin (fences.go).
//
// # Formats
//
// A keyspace has a set of Features, which says what its rows may contain beyond format 1. A group writes rows in the
// form that the features of its state ask for; a read accepts every form. Setting a feature (Activate) conflicts with
// every group under way. From then on a Store of an earlier release cannot read the head, and every request to it
// fails.
//
// # Invariants
//
//   - Every mutating request that succeeds has a revision of its own; the order of revisions is the order of commits
//     (I1, I2).
//   - The header revision of an answer is the head at the state that it shows (I3).
//   - A log entry at or above the compact revision has all its values, or names val rows that exist; no read at or
//     above the compact revision needs a log or hist row below that revision (I4).
//   - A val row under a stamp is written once, by the request of that stamp, and cleared with the log entry of the
//     request that replaced it.
//   - Every transaction that writes a row whose form depends on features reads something with a conflict, so that an
//     activation makes it fail.
//   - With Options.Beside, in every state that a group has made, the row Beside.Head has the head of that state. The
//     other rows record every grant and compaction since the last time that their reader cleared them. All are
//     written in the transactions that they describe.
//   - With FeatureSizes the counter is the sum of the rows of liveTables in every state.
//   - With FeatureCounts the counters of a settled bucket and of the buckets that join it add up to the number of
//     their keys in every state, and a group counts by the boundaries of the state that it commits to, or
//     by those from before a change that has not been sealed there.
//   - A keyspace with FeatureFollows has the revisions of its source and no others: each group sees in its state
//     whether the feature is set. If so it takes only replays, and otherwise everything else (replay.go). The
//     transaction that settles the leases removes the feature (follow.go).
//   - While the head row has FeatureParts, the rows are those of no revision: a revision of the source is being written
//     in several transactions, and rows lie above the head. No read answers from such a state, and only a replay of
//     that revision writes (parts.go).
//   - Where commits make the versions of stamps, a given stamp is never above a version that the engine has given out,
//     and each transaction that gives some reads the head with a conflict (given.go): revisions grow in the order of
//     commits there too. A copy has a base that makes room for its revisions, and no two imports write it at once
//     (importfar.go).
//   - A request is answered only when its outcome is known and durable (I5), whatever the engine does.
//   - Every key that a put has made can be replaced with a value of the same size, deleted, attached to a lease and
//     revoked, each in one transaction of the engine.
//   - A key changes at most once per revision. Callers must refuse transactions that could break this.
//   - An evaluation that fails changes nothing: requests find out whether they will succeed before they touch the
//     overlay.
//   - Pending revisions compare with numbers as the successors of the head. On a sparse engine those are of the next
//     version: no larger than the real ones, but above every revision that a client can know, or guess from what it
//     knows, since the head was read after its request. A group on a recent state that has compared one is not
//     committed (group.needsHead).
//
// # Several keyspaces in one engine
//
// A Store assumes nothing about rows beyond its prefix. It has its own stamp domain for revisions, its own feed,
// removal, quota and record of damage, and the sizes that it reports cover only its own rows; without a prefix,
// the size on disk is that of the whole store. If Options gives it turns (turns.go), it takes turns with other Stores
// at work that they share. During a turn it waits for nothing except the engine's reads and its order of commits. The
// goroutines that serve writes (lanes, the sweeper) start with the first write and end five seconds after the last; the
// one that removes compacted rows ends when none are left.
//
// Stores of one embedded engine that have little to write each may share a Joint (joint.go), which commits what waits
// in all of them in one transaction. In such a transaction each Store has a group of its own, evaluated as its lane
// would and with stamps of its own domain. At any time a Store is served either by the Joint or by its lane. A Store
// has at most one joint group on its way, so its entries stay in order. If anything is not plain (more than a few small
// requests wait, a request visits much, data is damaged, the commit is refused), nothing has happened: the requests go
// back to the front of their queue, and the Store's lane takes over until the Store is calm again.
//
// # Concurrency
//
// Store's methods may be called from any goroutine. A group is single-threaded: only its lane touches it until it
// lands. Locks (queue, removal, countMemo) are leaves: nothing is called while one is held. The exception is
// runway.turn, which a lane and its heavy lane hold while they decide the order of commits, and a queue's mutex, which
// may be held when that of a Joint is taken. A lane calls the Hold of a request that writes, so Hold must not wait.
//
// # Testing
//
// TestRoundTrips holds every operation to the round trips that docs/round-trips.md allows it on a remote engine.
// TestAgainstModel compares every operation with a naive model in which each revision is a whole map, on a dense
// engine, with tiny chunks, and on one that behaves like FoundationDB. TestBadDays runs concurrent clients over every
// fault that the engine may have (libs/engine/faults) and over restarts, and then compares the answers that they got
// with the log. TestCounts does the same with the count index, while its buckets are split and merged. The checker
// that these tests use (package fsck) knows docs/formats.md and nothing of this package: after a test it checks that
// all rows agree with one another. Then each readable revision is compared with the state that undoing the log from
// the head gives. TestOvertaken holds a request before its commit while another pod changes what it has read,
// TestActivationOvertakes while another activates features; TestOutOfDate lets it begin on a state that lacks
// another's writes. tests/faults and tests/robustness drive the package under etcd's own validators.
package mvcc
