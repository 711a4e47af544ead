// Package simulation runs whole deployments from a seed: kv pods, hubs with their tailer, lease keepers, the admin
// API, several keyspaces with users and limits, clients, snapshots, backups, a migration, faults and judges in one
// program, in which nothing happens that is not in the seed (make simulate, docs/simulation.md).
//
// # How a run is exact
//
// The program (guest) is the product's own composition over an engine in memory. It is compiled for WebAssembly
// (wasip1) and run by a runtime that is a Go module (Host): one thread, no preemption, randomness from the seed, from
// which Go's runtime takes the order of its goroutines, of select and of maps; a clock that stands still while
// anything can run and jumps to when the first goroutine wakes; and Go's own network in memory, which is what package
// net is there. A run has an empty directory of its own as /tmp, and may have its wall clock jump. docs/adr/0010
// says what else was tried.
//
// # Parts
//
//   - Builder builds the program, with changed copies of four modules of others that do not build for wasip1 (foreign),
//     and with other content in the place of some of the tree's files, if asked.
//   - Plan says what is in a run. SwarmPlan has the seed draw a few parts of everything.
//   - Host and Program run it: Plan in, Result out, Verdict read from it.
//   - Simulation.Run runs many seeds, Replay one; a plan that fails is made smaller (shrink).
//   - Planted are faults that somebody could make (planted/*.txt); FindPlanted says which seeds find each.
//   - sometimes.txt lists what many seeds together have to meet: each fault, and rare paths.
//
// # Invariants
//
//   - The same program, seed and plan give the same output and the same log, byte by byte, on any machine.
//   - A run that fails prints one command that replays it.
//
// # Concurrency
//
// A Host may run programs from several goroutines; a run uses one thread. A Builder belongs to one goroutine at a time.
//
// # Testing
//
// Its tests are about the harness: planted faults fit the tree, and are correct Go, as is the program; plans have every
// two parts together now and then; verdicts are read; and three short seeds are run twice, alike, and pass (TestSeed,
// which make test runs when all else is over, as it builds the program).
package simulation
