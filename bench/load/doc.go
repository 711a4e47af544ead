// Package load drives load against any server that speaks the etcd v3 API and measures what its clients see.
//
// It takes the sub-commands and flags of etcd's own benchmark tool, so that results can be read against etcd's pages,
// and adds the shapes that Kubernetes makes (create, update, paged list). The client is etcd's clientv3 for every
// server, so the client's cost is the same for all of them.
//
// # Time
//
// A run has a warm-up, which is not counted, and a window, which is. In a closed loop each client sends its next
// request when the last one is answered; a request counts if its answer arrives in the window. In an open loop
// (Options.Rate > 0) request i is due at start + i/rate, whether or not earlier ones are answered, and its latency is
// counted from then: a server that stalls is charged for the requests that had to wait (no coordinated omission). A
// request counts if it was due in the window, however late it ends.
//
// # Invariants
//
//   - Every failed request is counted, also in the warm-up: a run with errors has no valid result.
//   - Loads check what they are told: a range finds its key, a list's pages hold each key once with exact counts, and
//     (Options.Verify) the server's revision moved by exactly the number of writes it acknowledged.
//   - Keys and values come from seeded generators; values are slices of one random pool at changing offsets, so that
//     a server cannot compress them.
//
// # Concurrency
//
// Drive and Watch run their own goroutines and return when all have ended. Clients share Options.Conns connections
// round-robin.
//
// # Testing
//
// Unit tests cover histograms, rates, keys and values; smoke tests run each command against the null server and an
// embedded etcd. Nothing asserts a time.
package load
