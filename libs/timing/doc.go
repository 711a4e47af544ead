// Package timing carries where a request's time went: from the layers that know to the one that logs slow requests,
// through the request's context. It knows neither.
//
// # Invariants
//
//   - Stages do not overlap, so that what they lack of the whole is the time in which nobody of them had the request.
//   - Who adds does not care whether anybody looks: From is nil where nobody does, and Add on nil does nothing.
//
// # Concurrency
//
// Stages may be added to from any goroutine: a request may have several writes under way. Those that overlap in time
// add up to more than the request took.
//
// # Testing
//
// TestStages here; packages mvcc, server and etcdapi test that what they add is right and is logged.
package timing
