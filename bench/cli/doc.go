// Package cli is the command line of hwbench: the sub-commands and flags of etcd's benchmark tool on top of package
// load, and the null server.
//
// Invariants: a run in which a request failed, or whose check failed, exits with an error after its result is
// printed; nothing is printed to the output but the result, so that --json output can be read by a program.
//
// Concurrency: a Command is used once, by one goroutine. Its context ends the run.
//
// Testing: each sub-command is run for a few requests against the null server and, with its counts checked, against
// an embedded etcd.
package cli
