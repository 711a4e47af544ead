// Package watch fans committed log entries out to streams of etcd watches (docs/design.md §6).
//
// Apply feeds a Hub with entries in revision order. Each Stream is one client's Watch RPC: it creates and cancels
// watches, and hands out responses in the order in which they must be sent. The gRPC service is in package etcdapi.
//
// # How it works
//
//   - Recent entries are kept in a ring bounded in bytes. An event's protobuf form is made once, on first use, and
//     shared by all responses that carry it.
//   - Watches with the same range, filters and prev_kv share a group. A matcher (map for keys, radix tree for prefixes,
//     interval tree for other ranges) finds the groups of a key; a group holds references to the recent events that
//     matched.
//   - A watcher is a cursor: the next revision it needs. The watchers of one group on one stream form a sub. A match
//     appends to the group and marks its idle subs dirty; a sub that is already dirty costs nothing more. The
//     stream's sender takes dirty subs and builds one response per watcher from the group's events.
//   - A watcher that the ring has left behind, or that starts in the past, is lagging. Passes serve lagging watchers:
//     one reads a stretch of history, from the ring or else from the Log, matches it for all watchers whose cursors
//     lie in it, and leaves each a bounded batch. A watcher is live again as soon as its group has everything after
//     its cursor, so there is neither gap nor duplicate at the seam. Watchers that the ring can serve and watchers
//     that need the log wait in separate queues with a runner each, so the former never wait for a read of the log.
//     The watcher that has waited longest is next in its queue, so none waits behind another's backlog.
//   - Next hands out its responses in a slice from a pool that all streams share. The caller gives the slice back
//     with Release, so a waiting stream holds none. Events in it are never reused; they live as long as anyone refers
//     to them.
//   - Values that an entry only names are read once, when a watch wants them. If those of one request are more than
//     Options.StreamBytes, the hub does not read them: each stream does, piece by piece while it sends (parts.go). A
//     piece is as large as what a stream may hold in a turn.
//   - Package history keeps a cache on the local disk in front of a remote Log.
//
// A live watcher with a range of its own costs its cursor (48 B), sub (64 B), group (80 B), radix node, key and place
// in its stream's map: under 300 B with a key of 17 B. Another watcher of the same range on the same stream costs
// under 90 B (BenchmarkWatcherMemory). To keep it so small, these structures hold nothing that can be found another
// way. There is no map from ranges to groups, because the matcher is one. There is no map from groups to subs while a
// group has one sub. Slices and queues exist only once they hold more than one element.
//
// # Invariants
//
//   - I8: a watcher gets every event of its range from its start revision on, once, in revision order, whole revisions
//     per response, or a cancel with compact_revision.
//   - A created response precedes all events of its watch, and a canceled response follows them. A progress
//     notification of revision R follows every event <= R of the watches that it is for.
//   - The revision of an event response is never ahead of what its watcher has been sent.
//   - I7: memory is bounded by the ring, the inbox, and per stream by two turns (what is being sent, and what passes
//     have left); each of these may be exceeded by one oversized revision. A stream whose client does not read holds
//     its cursors and no more. Neither Apply nor another stream ever waits for a client.
//   - Nothing assumes that revisions are dense.
//   - An entry that came encoded (ApplyPayloads) is decoded for the ring only if a group matches one of its keys when
//     it is applied. A pass decodes those of the others of which it wants an event, for itself.
//
// # Concurrency
//
// The core (core, streamState, group, pass) is a state machine without clock, goroutine or network; Hub holds one lock
// around its methods. The Hub runs four goroutines: the dispatcher, which moves entries from the inbox into the core;
// two catch-up runners (ring and log), which read and match history without the lock; and one ticker for all periodic
// progress notifications. Apply does the dispatcher's work itself while there is no stream, and when the inbox is full.
// A stream has no goroutine here: its user calls Next. For each state of the log that is held for large requests, of
// which there are maxHolds at most, there is one more, for heldFor at most.
//
// Lock order: Hub.draining, then Hub.mu, then Hub.inboxMu. headReader.mu is held alone.
//
// # Testing
//
// TestCoreAgainstModel drives the core with random entries, stalls, compactions and tiny limits against a naive model;
// -watch.seed repeats a run. isolation_test.go shows by counting turns and passes that nobody waits for another. Hub
// tests run the goroutines, with and without package history; encoders are fuzzed against proto.Unmarshal. Package
// etcdapi has the soak test (-soak).
package watch
