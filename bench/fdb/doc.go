// Package fdb measures the distributed form on one FoundationDB process. Everything runs on this machine and belongs to
// this run alone.
//
// It starts the processes of package tests/stack (fdbserver with the ssd engine, nats-server, pods), without a
// router, in a temporary directory, and runs hwbench against single pods: writes and reads at kv-1, watches at hubs.
// kv-2 runs only while conflicts and the idle deployment are measured, the second leasekeeper only for the latter.
// Rows are interleaved over the rounds; tables show medians. Each run of a load has a key prefix of its own.
//
// CPU per request is the CPU time of all processes of a kind in the measured window divided by the requests of the
// window. The load generator, the pods and FoundationDB share the cores, so a rate says what this machine does with all
// of them running.
//
// # Invariants
//
//   - A load with a failed request or a failed check has no number. Its row says why.
//   - Everything listens on 127.0.0.1. All processes end with the runner, by their own ids.
//
// # Concurrency
//
// One Run at a time on a machine.
//
// # Testing
//
// Tables and goals are tested as pure functions. Speed is never asserted.
package fdb
