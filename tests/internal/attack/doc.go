// Package attack is clients that mean harm, or are broken in a way that looks like it: connections that say nothing
// or half of something, requests that never end, answers that are never read. Each attack is bounded by a number that
// its caller gives.
//
// # Concurrency
//
// Functions may be called from any goroutine; what they return belongs to the caller, who ends it.
package attack
