// Package move measures what moves a keyspace as a whole, beside etcd's own tools on the same machine and in the same
// run: snapshots and restores.
//
// Sides take turns, so that what the machine does besides hits both. Every figure stands as what was measured and as a
// ratio of medians. CPU time is what the kernel has charged to a process; peaks are those of resident memory.
//
// It needs Linux. Everything listens on loopback, and is killed by its own process id.
package move
