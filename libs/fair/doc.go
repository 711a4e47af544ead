// Package fair shares turns among flows by weight: a flow is a keyspace, a turn is a group commit, a step of a read, a
// catch-up pass.
//
// Ring is the pure core, deficit round-robin (Shreedhar and Varghese, 1995): waiting flows form a ring. At each visit
// a flow may take as much more as its weight says, in units of the quantum; what it has not taken is added at the
// next visit. Gate is a Ring with a number of places in front of it: a ticket that finds a free place enters at once,
// and only waiting ones are in the ring. A Pool is for what a holder may keep for as long as it likes (streams,
// answers that a client does not read). There are no turns there; instead a flow may hold no more than it leaves free
// for others.
//
// # Invariants
//
//   - While two flows wait all the time, the amounts that they have taken, divided by their weights, differ by at
//     most a quantum plus the largest turn of either (TestShares).
//   - A ticket that asks for little waits for no more than one turn of each other flow for each quantum that it costs,
//     however many tickets others have there (TestNobodyStarves).
//   - Nobody waits while a place is free (TestGate), or while the gate is open for all (TestOpenGate).
//   - What a flow takes while no other waits is not held against it later: a flow that has been busy alone begins
//     like all others. What a turn has taken beyond its ticket (Charge) is owed only until then.
//   - A flow that holds nothing of a Pool finds half of what is free, however much others want (TestPool).
//
// # Concurrency
//
// A Ring belongs to one goroutine at a time, and has neither clock nor goroutine. The methods of Gates, Flows, Pools
// and Holdings may be called from any goroutine. Their locks are leaves, and they start no goroutines.
package fair
