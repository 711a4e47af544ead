// Package leases keeps leases alive during faults, and reports whether any ended early, late or only in part.
//
// A Life is one lease with two keys. It is granted, kept alive for a while, and then left to end. The judgement rests
// on what the client knows. The server counts the TTL from some moment between the sending of the last answered request
// and its answer. So a lease ended early if it ended before a TTL had passed since that sending, however often its
// owner changed. It may end later.
//
// A deletion has happened before its event arrives, before a keep-alive or a read says so, and before anything shows a
// revision at or above its own (Clock). The earliest of these moments counts, so that a slow watcher does not hide an
// early end.
//
// Times are time.Time with monotonic readings of one process. Concurrency: a Life belongs to one goroutine; Deletes and
// Clock are safe for concurrent use.
package leases
