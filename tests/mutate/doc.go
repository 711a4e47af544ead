// Package mutate asks which small changes to the code no test notices (`make mutate`).
//
// # Mutants
//
// A mutant is a file with one change: a condition negated, a bound moved by one, a call left out, an error swallowed
// (see operators). Its name consists of the file, the function, the operator and the text that changes. It has no line
// number, so that a list of mutants stays valid when other code changes. If the text changes, it is another mutant.
//
// # Runs
//
// The tree is never edited. The changed file is laid over it (go build -overlay). Only the tests of the mutant's own
// package judge it, with -short and -failfast, in a time that is a multiple of what they take on the unchanged code. A
// mutant is killed if its tests fail or do not end. A mutant that does not compile does not count. A mutant in a line
// that the tests never reach survives without being run.
//
// # Survivors
//
// survivors.txt names the mutants that may survive, each with a reason. The run fails if any other mutant survives, and
// also if a listed mutant is killed or no longer exists.
//
// # Results
//
// Each result is written to a file as soon as it is known, with a hash of the package's code and one of its tests. So a
// run that was stopped can go on where it was. The hashes do not cover other packages; remove the file when those have
// changed.
//
// # Concurrency
//
// One mutant at a time; nothing here may be called from several goroutines.
package mutate
