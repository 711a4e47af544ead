// Package metrics compares Headwater's /metrics with those of a real etcd.
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
