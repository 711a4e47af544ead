// Package feed brings the revision log from the store to the watch hubs (docs/design.md §6): a Tailer reads it and
// publishes frames, a Follower on each hub puts frames and its own reads of the log together to the one sequence of
// entries.
//
// # How it works
//
// One Tailer per keyspace is enough; which pod runs it is decided by package election. It reads what lies after its
// position whenever a nudge comes, the head changes, or Poll has passed, and publishes it in frames that chain: each
// is complete for the revisions in (Prev, Upto], and the next begins there. While there is nothing new it sends
// heartbeats.
//
// A Follower subscribes first, reads the head, reads its window (the last entries before the head, as many as its
// bounds allow) and is ready when it has applied all up to that head. From then on every frame, and every read of the
// log, is a span of revisions that is checked against its position (chain):
//
//   - what it has already is cut off or ignored,
//   - what follows on is applied,
//   - what lies beyond shows a gap: the log is read up to it, then the frame is looked at again. An entry that came
//     as a reference or is damaged is a gap too.
//
// When no frame has come for Poll, the follower follows the log by itself until one comes, at most one read per
// DirectPause. A Follower without a bus does so always, without the pause.
//
// Of many keyspaces (Heads) whoever follows some waits for the bell of their shard, and reads the heads of the shard
// when it rings, for all of them: a SharedLog is a keyspace's log whose head is known so. A Follower of one needs no
// bus.
//
// # Invariants
//
//   - I6: every entry is applied exactly once and in order, whatever is lost, repeated, reordered or sent by two
//     tailers. Nothing rests on the bus but speed.
//   - Position never moves back without Reset, and a Reset that is not the first says that entries were left out:
//     streams have to end. It happens if the log has been removed below what the follower needs, and if the
//     follower's position lies beyond the head, which tells that the database was set back or that frames came from
//     elsewhere.
//   - Freshness is proved, not assumed: Lag is the time since the start of the last linearizable read of the head
//     that the position has reached. Neither heartbeats nor silence count. A follower found behind twice in a row
//     reads the log, whatever arrives.
//   - Reads of the log are bounded (ReadEntries, ReadBytes), and so is what waits between the bus and the follower
//     (InboxBytes); what does not fit is dropped, and is a gap.
//   - What SharedLog.Head answers was read after the question; several questions share a read, headsEvery apart.
//
// # Concurrency
//
// chain is pure: no clock, network or goroutine. Run of a Follower has a goroutine that checks the head, and one that
// waits for it to change; callbacks are called by Run's own goroutine, but for Stall, which the checker calls.
// Everything else may be called from any.
//
// # Testing
//
// TestChainAgainstModel and FuzzChain compare chain with a naive model under loss, repetition, reordering, two
// tailers and restarts. The tests of Tailer and Follower run in synctest bubbles with a log in memory and a bus that
// loses, repeats and reorders.
package feed
