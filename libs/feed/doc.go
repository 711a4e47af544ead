// Package feed brings the revision log from the store to the watch hubs (docs/design.md §6). A Tailer reads the log
// and publishes frames. A Follower on each hub combines these frames with its own reads of the log into one sequence
// of entries.
//
// # How it works
//
// One Tailer per keyspace is enough; package election decides which pod runs it. The Tailer reads the log after its
// position whenever a nudge comes, the head changes, or Poll has passed. It publishes what it has read in frames that
// form a chain: each frame is complete for the revisions in (Prev, Upto], and the next one begins at Upto. While
// there is nothing new, the Tailer sends heartbeats, soon only one a second.
//
// A Follower subscribes first, reads the head, reads its window (the last entries before the head, as many as its
// bounds allow) and is ready when it has applied all up to that head. From then on every frame, and every read of the
// log, is a span of revisions that is checked against its position (chain):
//
//   - entries at or below the position are ignored,
//   - entries that follow the position directly are applied,
//   - a span that begins later shows a gap: the Follower reads the log up to the span, then checks the frame again.
//     An entry that came without its payload, or is damaged, is a gap too.
//
// If no frame has come for Poll, the Follower has the store report the next change of the head. If the frame that
// belongs to it does not come within LateFrame, the Follower reads the log itself until a frame comes, at most once per
// DirectPause. It also does so after a silence of silenceFactor times Poll. A Follower without a bus always does so,
// without the pause.
//
// Heads serves a process that follows many keyspaces. It waits for the bell of their shard, and when the bell rings
// it reads the heads of the shard, once for all of them. A SharedLog is the log of a keyspace whose head is known in
// this way; a Follower of a SharedLog needs no bus.
//
// # Invariants
//
//   - I6: every entry is applied exactly once and in order, whatever is lost, repeated, reordered or sent by two
//     tailers. Only speed depends on the bus.
//   - Position never moves back without Reset. Every Reset except the first says that entries were left out, so that
//     streams have to end. A Reset happens in two cases: the entries that the Follower needs have been removed from
//     the log, or its position is beyond the head. The latter means that the database was set back, or that frames
//     came from another deployment.
//   - Freshness is proved, not assumed: Lag is the time since the start of the last linearizable read of the head
//     that the position has reached. Neither heartbeats nor silence count. A follower found behind twice in a row
//     reads the log, whatever arrives.
//   - Reads of the log are bounded (ReadEntries, ReadBytes), and so is the inbox between the bus and the Follower
//     (InboxBytes). A frame that does not fit is dropped, which makes a gap.
//   - SharedLog.Head answers with a head that was read after the call began; calls share reads, which are headsEvery
//     apart.
//
// # Concurrency
//
// chain is pure: no clock, network or goroutine. Follower.Run has a goroutine that checks the head, and one that
// waits for the head to change. Run's own goroutine makes the callbacks, except for Stall, which the checking
// goroutine calls. Everything else may be called from any goroutine.
//
// # Testing
//
// TestChainAgainstModel and FuzzChain compare chain with a naive model under loss, repetition, reordering, two
// tailers and restarts. The tests of Tailer and Follower run in synctest bubbles with a log in memory and a bus that
// loses, repeats and reorders.
package feed
