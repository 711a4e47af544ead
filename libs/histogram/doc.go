// Package histogram counts what many things measured, in buckets: the numbers behind a Prometheus histogram, for
// packages that know nothing of Prometheus. To observe takes no lock and no memory.
//
// # Invariants
//
//   - A value that equals a bound belongs to the bucket below the bound, as in Prometheus.
//
// # Concurrency
//
// All methods may be called from any goroutine. A Reading that is taken while others observe may lack some of what
// they do.
//
// # Testing
//
// TestHistogram here has the bounds; package server compares with Prometheus's own histogram.
package histogram
