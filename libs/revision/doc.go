// Package revision is the arithmetic between an engine's stamps and etcd's revisions (docs/design.md I1, I2).
//
// # Invariants
//
//   - Order is kept: s < t as stamps if and only if Of(s) < Of(t).
//   - Of and Stamp are inverse to each other.
//   - Nothing here assumes that revisions are dense: rev+1 only stands for the smallest revision after rev.
//
// All functions are pure and may be called from any goroutine.
package revision
