// Package keyspaces measures many keyspaces in one standalone server: what idle ones cost, what the first request to
// one that is closed waits for, and what small users feel of a greedy neighbour.
//
// Every number is measured by this process's clients, or read from the kernel about the server's process. A request
// that fails ends the run: there is no number then.
//
// # Concurrency
//
// Run belongs to one goroutine; it ends the server that it has started.
package keyspaces
