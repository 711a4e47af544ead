// Package proc reads what the Linux kernel knows of a process and of the machine: CPU time, resident memory, bytes
// written, load average.
//
// The bench charges a server for the CPU seconds that the kernel accounted to its process, because on a small machine
// the clients eat most of the cores and requests per second alone say little.
//
// Invariants: values come from one read of one file under /proc and are never estimated. All functions are stateless
// and safe for concurrent use. A process that is gone is an error, never zero. ResetPeak is the only function that
// changes anything.
//
// Testing: the parsers are tested with fixed texts, the readers with the test's own process.
package proc
