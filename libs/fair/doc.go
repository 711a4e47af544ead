// Package fair shares turns among flows by weight: a flow is a keyspace, a turn is a group commit, a step of a read, a
// catch-up pass.
//
// Ring is the pure core, deficit round-robin (Shreedhar and Varghese, 1995): the flows that wait stand in a ring; at
// each visit a flow may take as much more as its weight says, in units of the quantum, and what it has not taken counts
// at the next visit. Gate is a Ring with a number of places in front of it: who finds a place free goes in at once, and
// only who waits stands in the ring.
//
// # Invariants
//
//   - While two flows wait all the time, what they have taken, divided by their weights, differs by no more than a
//     quantum and what the largest turn of either takes (TestShares).
//   - A ticket that asks for little waits for no more than one turn of each other flow for each quantum that it costs,
//     however many tickets others have there (TestNobodyStarves).
//   - Nobody waits while a place is free (TestGate), or while the gate is open for all (TestOpenGate).
//   - Nothing is owed for what was taken while nobody waited: a flow that has been busy alone begins as all others.
//     What a turn has taken beyond its ticket (Charge) is owed until then.
//
// # Concurrency
//
// A Ring belongs to one goroutine at a time, and has neither clock nor goroutine. A Gate's and a Flow's methods may be
// called from any goroutine. A Gate's lock is a leaf; no goroutine is its own.
package fair
