// Package node is a watchhub pod: it follows the revision log, keeps its recent part in memory and on disk, and fans it out
// to watchers. One watchhub pod of a keyspace, elected, is its tailer: it publishes the log on the bus. Everything but
// Watch is relayed.
//
//	log ─(tailer, on one pod)→ bus ─→ feed.Follower ─→ history.Cache, watch.Hub ─→ streams
//	 └───────────(gaps, start, history)────┘
//
// # Invariants
//
//   - I6: what the hub gets is complete, whatever the bus and the tailers do; see libs/feed.
//   - A hub that has fallen behind ends its streams with Unavailable and is not ready until it has caught up: clients resume
//     at their next revision on another.
//   - The disk of --data-dir holds a cache and nothing else. Without --data-dir there is no cache: watchers that memory has
//     left behind are served from the log.
//
// # Concurrency
//
// See package pod. The follower's goroutine is the only one that makes and replaces hubs.
package node
