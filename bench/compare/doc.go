// Package compare runs the same load against etcd, Headwater and the null server on one machine and writes the results
// as Markdown.
//
// # Method
//
// Servers and the load tool are child processes: the clients' memory and CPU are not the servers'. Each measurement
// starts a server on an empty data directory on the disk given by Config.Dir (fsync on for all), fills it if the load
// reads, loads it, and stops it. Rounds are interleaved: etcd, Headwater, null, etcd, … so that a slow drift of the
// machine touches all alike. A table shows medians over the rounds, and ratios as the ratio of the medians with the
// smallest and largest ratio of a round.
//
// A server's CPU per request is the CPU time the kernel charged to its process in the measured window, divided by the
// requests of the window; it includes background work that falls in the window. "Others" is CPU used by anything that
// is neither the server nor the clients. When it is not near zero, the machine was not quiet: do not trust the rates
// then, and trust CPU per request less.
//
// Watch loads (package watchload) run the same way, on the two servers that store data. Config.Docs names a document.
// In it the runner replaces the sections about what it has measured, each of which stands between two comments. It
// draws the curves into benchmarks/ beside the document.
//
// # Invariants
//
//   - A load with a failed request or a failed check has no number in the report. The report names it as failed, and
//     the runner ends with an error.
//   - Everything listens on 127.0.0.1 only. Every child is ended by its own process id when its measurement ends,
//     when the context ends, and (on Linux) by the kernel when the runner dies. Data directories are removed.
//   - Headwater and etcd get the same values, keys, quota, and memory limits.
//
// # Concurrency
//
// Run uses one goroutine of its own. Two runs at a time on one machine give numbers that mean nothing.
//
// The package needs Linux: it reads /proc and asks the kernel to kill orphans.
//
// # Testing
//
// Statistics, goals and tables are tested as pure functions; processes with the test binary itself as the child.
// Speed is never asserted.
package compare
