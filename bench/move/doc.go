// Package move measures snapshots and restores, beside etcd's own tools on the same machine and in the same run.
//
// The two sides take turns, so that other work of the machine disturbs both alike. Every figure is shown as it was
// measured, and as a ratio of medians. CPU time is what the kernel has charged to a process; peaks are those of
// resident memory.
//
// The package needs Linux. Every process that it starts listens on loopback only, and is killed by its own process id.
package move
