// Package mutate asks which small changes to the code no test notices (`make mutate`).
//
// # Mutants
//
// A mutant is a file with one change: a condition negated, a bound moved by one, a call left out, an error swallowed
// (see operators). It is named by file, function, operator and the text that changes, never by line, so that a list of
// mutants outlives edits elsewhere. Change the text, and it is another mutant.
//
// # Runs
//
// The tree is never edited: the changed file is laid over it (go build -overlay). Only the tests of the mutant's own
// package judge it, with -short and -failfast, in a time that is a multiple of what they take on the unchanged code.
// A mutant whose tests fail, or do not end, is killed; one that does not compile is none; one in a line that
// the tests never reach survives without being run.
//
// # Survivors
//
// survivors.txt names the mutants that may survive, each with a reason. Whatever survives beside them, and whatever
// is listed and is killed after all, or no longer exists, fails the run.
//
// # Results
//
// Each result is kept in a file as soon as it is known, under a hash of the package's code and one of its tests; a run
// that was stopped goes on where it was. Other packages do not count: remove the file when those have changed.
//
// # Concurrency
//
// One mutant at a time; nothing here may be called from several goroutines.
package mutate
