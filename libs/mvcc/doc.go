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
// A conflict evaluates the group again; the second one in a row cuts it in half, so that a hot key cannot starve the
// rest. A request that meets damaged data is answered so; the group goes on without it (damage.go). An unknown
// outcome is resolved by the lane's own row (I5). On an engine that is pipelined the lane evaluates the next group
// while the last one syncs; on others several lanes keep groups in flight, and requests that touch the same keys
// never go to two lanes at once: they stand in a line at each key (schedule.go), and cost nothing until their turn
// comes, however many wait. A request that has been answered because its client has gone or its time is over leaves
// the queue within a sweep (250 ms). While the engine is known to be out of reach (a group has tried for a second,
// outageAfter) that time is a second instead of seven, and a group is tried once; the first commit ends it.
//
// On an engine.RecentBeginner a group first tries a recent state, which may be outdated; recent.go says when
// its commit proves it.
//
// Where the time of a write goes is counted for metrics (writestats.go), and added to the stages that its context may
// carry (package timing): two looks at the clock per request, and five per group.
//
// What the evaluation of one request may visit is bounded (budget.go), and it ends when nobody waits for the request
// any more. Where a single lane is pipelined, a request that visits more than a millisecond's worth of rows leaves
// its group for the heavy lane (heavy.go), which evaluates it beside the groups of the first and holds that one up
// only for the commit; conflicts between the two are the engine's to find.
//
// On an engine with limits a put is refused before it is queued when what it makes could not be replaced, deleted or
// revoked later, and a delete while it walks over more than a transaction can write (fit.go). What the engine refuses
// itself, at the commit or with its outcome, is the answer of the request that it is about: the group is split until
// that one is alone.
//
// What all requests of a group are sure to need is read together before the first is evaluated (ahead.go): on a remote
// engine a read by itself is a round trip, so that nothing may read key by key.
//
// # Reads
//
// A read takes a snapshot of durable state and never waits for a sync. At the head it reads idx rows, and val rows
// for large values; at an older revision it merges them with the hist rows, whose values lie in the log if they are
// small, and else in the val rows in which they always were. A list that outlives its snapshot goes on in a new one
// as of the same revision.
//
// Bounds of bytes and keys are kept by the groups. A Store that is the only writer has both sums in memory; where
// others write too, a group reads the counters in its own transaction: that of the bytes without a conflict, those of
// the keys with one when the bound is near (keys.go).
//
// A count adds up counters of buckets of keys, and walks over the keys of two buckets at most (count.go). Groups add to
// the counters without reading them (buckets.go); splits and merges of buckets are transactions beside the groups, in
// two steps each, which a group conflicts with and which no group makes fail (keepbuckets.go).
//
// # Formats
//
// What rows may be beyond format 1 is a set of Features of the keyspace. A group writes as the features of the state
// say that it is evaluated in; a read takes every row as it is. Setting a feature (Activate) conflicts with every
// group under way. A Store of an earlier release then cannot read the head, and answers nothing.
//
// # Invariants
//
//   - Every mutating request that succeeds has a revision of its own; the order of revisions is the order of commits
//     (I1, I2).
//   - The header revision of an answer is the head at the state that it shows (I3).
//   - A log entry at or above the compact revision has all its values, or names val rows that are there; no read at
//     or above the compact revision needs a log or hist row below it (I4).
//   - A val row under a stamp is written once, by the request of that stamp, and cleared with the log entry of the
//     request that replaced it.
//   - Every transaction that writes a row whose form depends on features reads something with a conflict, so that an
//     activation makes it fail.
//   - With Options.Beside the row Beside.Head tells the head of every state that a group has made, and the others
//     tell of every grant and compaction since whoever clears them looked: they are written in the same transactions.
//   - With FeatureSizes the counter is the sum of the rows of liveTables in every state.
//   - With FeatureCounts the counters of a settled bucket and of those that join it are together the number of their
//     keys in every state, and a group counts by the boundaries of the state that it commits to.
//   - A keyspace with FeatureFollows has the revisions of its source and no others: each group sees the feature in the
//     state that it is evaluated in, and takes replays with it, and everything else without it (replay.go). The feature
//     goes away in the transaction that settles the leases (follow.go).
//   - A request is answered only when its outcome is known and durable (I5), whatever the engine does.
//   - What a put has made can be replaced by as large a value, deleted, attached to a lease and revoked, each in a
//     transaction of the engine.
//   - A key changes at most once per revision. Callers must refuse transactions that could break this.
//   - An evaluation that fails changes nothing: requests find out whether they will succeed before they touch the
//     overlay.
//   - Pending revisions compare with numbers as the dense successors of the head. On a sparse engine those are
//     smaller than the real ones, but still above every revision that a client can know, since the head was read
//     after its request. A group on a recent state that has compared one is not committed (group.needsHead).
//
// # Several keyspaces in one engine
//
// A Store assumes nothing of what lies beyond its prefix. Its revisions are those of its own stamp domain; its feed,
// its removal, its quota and its damage are its own; what it says of sizes is of its rows alone. Where Options gives
// it turns (turns.go), it waits for them with what others wait for too; a turn ends before anything is waited for but
// the engine's reads and its order of commits. Who serves writes (lanes, the sweeper) starts with the first write and
// ends five seconds after the last, and who removes ends when nothing is left.
//
// # Concurrency
//
// Store's methods may be called from any goroutine. A group is single-threaded: only its lane touches it until it
// lands. Locks (queue, removal, countMemo) are leaves: nothing is called while one is held. The exception is
// runway.turn, which a lane and its heavy lane hold while they make the order of commits. A Hold of a request that
// writes is called by a lane: it must not wait.
//
// # Testing
//
// TestRoundTrips holds every operation to the round trips that docs/round-trips.md allows it on a remote engine.
// TestAgainstModel compares every operation with a naive model in which each revision is a whole map, on a dense
// engine, with tiny chunks, and on one that behaves like FoundationDB. TestBadDays runs concurrent clients over every
// fault that the engine may have (libs/engine/faults) and over restarts; what they were told is then held against the
// log. TestCounts does the same with the count index, while its buckets are split and merged. The checker behind
// them (package fsck) knows docs/formats.md and nothing of this package: after a test it checks that all rows agree
// with one another; then each readable revision is compared with what undoing the log from the
// head gives. TestOvertaken holds a request before its commit while another pod changes what it has read,
// TestActivationOvertakes while another activates features; TestOutOfDate lets it begin on a state that lacks
// another's writes. tests/faults and tests/robustness drive the package under etcd's own validators.
package mvcc
