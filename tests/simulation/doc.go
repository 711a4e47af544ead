// Package simulation runs whole deployments from a seed: kv pods, hubs with their tailer, lease keepers, the admin
// API, several keyspaces with users and limits, clients, snapshots, backups, a migration, faults and judges in one
// program, in which nothing happens that is not in the seed (make simulate, docs/simulation.md).
//
// # How a run is exact
//
// The program (guest) is the product's own composition over an engine in memory. Go's runtime in it has one thread, no
// preemption, randomness from the seed, from which it takes the order of select and of maps, and a clock that stands
// still while anything can run and jumps to when the first goroutine wakes; package net is Go's own network in memory.
// A run has an empty directory of its own for temporary files, and may have its wall clock jump. Two hosts do that:
//
//   - native changes files of Go's runtime and library while it builds the program (goroot), which takes one known
//     release of Go and Linux, and runs it as a process (docs/adr/0013).
//   - wasm compiles the program for WebAssembly (wasip1), where the runtime is like that, and runs it in a runtime that
//     is a Go module (docs/adr/0010). It takes several times as long.
//
// The same seed is another run on the other host.
//
// # Parts
//
//   - A host builds the program, with other content in the place of some of the tree's files, if asked, and with
//     changed copies of some modules of others (foreign), and runs it.
//   - Plan says what is in a run. SwarmPlan has the seed draw a few parts of everything.
//   - Program runs: Plan in, Result out, Verdict read from it.
//   - Simulation.Run runs many seeds, Replay one; a plan that fails is made smaller (shrink).
//   - Planted are faults that somebody could make (planted/*.txt); FindPlanted says which seeds find each.
//   - sometimes.txt lists what many seeds together have to meet: each fault, and rare paths.
//
// # Invariants
//
//   - The same program, seed and plan give the same output and the same log, byte by byte, on any machine: for the
//     native host, on any with the same kind of processor.
//   - A run that fails prints one command that replays it.
//
// # Concurrency
//
// A Program may be run from several goroutines; a run uses one thread. A Simulation builds one program at a time.
//
// # Testing
//
// Its tests are about the harness: planted faults fit the tree, and are correct Go, as is the program; the changes fit
// the installed Go, and 20 runs of a small program that is built with them are the same; verdicts are read; and, with
// HEADWATER_SIMULATE=1, which make simulate-short sets, a seed is run twice alike and passes.
//   - Plan says what is in a run. SwarmPlan has the seed draw a few parts of everything.
package simulation
