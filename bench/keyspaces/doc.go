// Package keyspaces measures many keyspaces in one standalone server: what idle keyspaces cost, how long the first
// request to a closed keyspace waits, how much a greedy keyspace slows down small ones, and what the same writes cost
// in many keyspaces and in one.
//
// The clients in this process measure every number, or the kernel tells it about the server's process. A request that
// fails ends the run, which then has no number.
//
// # Concurrency
//
// Run belongs to one goroutine; it ends the server that it has started.
package keyspaces
