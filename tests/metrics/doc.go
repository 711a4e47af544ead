// Package metrics compares what Headwater's /metrics shows with what a real etcd's does.
//
// # Invariants
//
//   - Each name of etcd's is either shown, with etcd's type and labels, or listed in docs/compatibility.md with a
//     reason.
//
// # Concurrency
//
// None.
package metrics
