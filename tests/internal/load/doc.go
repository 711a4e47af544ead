// Package load drives a server with concurrent recorded traffic, for checks of linearizability and of the watch
// guarantees afterwards (package check).
//
// Requests go through etcd's own robustness recorder (go.etcd.io/etcd/tests/v3/robustness/client), one request at a
// time per client, so that histories are in the form that etcd's model understands. There are two profiles:
//
//   - KeyValue: puts small and large, gets and lists at the newest and at old revisions, streamed lists, deletes,
//     transactions with several operations and with compares, leases.
//   - Kubernetes: create, update and delete guarded by mod revisions, paginated lists, list then watch.
//
// Both also run watchers: short ones that start at past and future revisions, long ones that live through restarts, and
// one Recorder that sees every event from revision 2 on. Compactions are optional and never overtake the Recorder.
//
// Invariants the checks rely on:
//
//   - Values are unique, so that a write whose answer was lost can be found in the log.
//   - A request of the KeyValue profile that only deletes never names a key that may have a lease (see keys): a log
//     entry that deletes nothing but leased keys is a revocation.
//   - After a failed write a client reads until a read succeeds. So there are few unknown outcomes at a time, which
//     keeps the check tractable.
//   - A compaction whose outcome is unknown is repeated until the outcome is known.
//
// Random choices come from the seed. The interleaving depends on the machine. Concurrency: a Run belongs to one
// goroutine.
package load
