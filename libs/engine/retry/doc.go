// Package retry is the one way in which callers of the store wait before they try again: pauses that double between
// two bounds, shortened by chance so that those who failed together do not come back together, and that end with
// their context.
//
// What may be tried again at all is said by engine.Class, and how often by each caller's Policy, a named limit of
// its package. What a caller does with each class of errors is in the table of libs/compose's TestClasses.
//
// # Invariants
//
//   - A pause is at least half of what the policy says, and at most all of it.
//   - No function here returns later than its context's end.
//   - Nothing is logged or counted here: that is the caller's, who knows what it means.
//
// # Concurrency
//
// A Policy is a value and may be used from any goroutine; a Pauses from one at a time.
package retry
