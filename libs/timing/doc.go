// Package timing records where a request's time went. The layers that know it add to the request's context, and the
// layer that logs slow requests reads it. The package knows neither of them.
//
// # Invariants
//
//   - Stages do not overlap. So the time that they lack of the whole is the time in which none of them had the request.
//   - A layer that adds need not know whether anybody reads: if nobody does, From returns nil, and Add on nil does
//     nothing.
//
// # Concurrency
//
// Any goroutine may add to Stages, because a request may have several writes under way. If they overlap in time, they
// add up to more than the request took.
//
// # Testing
//
// TestStages tests this package. Packages mvcc, server and etcdapi test that what they add is right and is logged.
package timing
