// Package histogram counts measured values in buckets: the numbers behind a Prometheus histogram, for packages that do
// not use Prometheus. Observing takes no lock and allocates no memory.
//
// # Invariants
//
//   - A value that equals a bound belongs to the bucket below the bound, as in Prometheus.
//
// # Concurrency
//
// All methods may be called from any goroutine. A Reading that is taken while others observe may lack some of their
// observations.
//
// # Testing
//
// TestHistogram tests the bounds. Package server compares with Prometheus's own histogram.
package histogram
