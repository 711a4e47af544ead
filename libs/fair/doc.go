// Package fair shares turns among flows by weight: a flow is a keyspace, a turn is a group commit, a step of a read, a
// catch-up pass.
//
// Ring is the pure core, deficit round-robin (Shreedhar and Varghese, 1995): the flows that wait stand in a ring; at
// each visit a flow may take as much more as its weight says, in units of the quantum, and what it has not taken counts
// at the next visit. Gate is a Ring with a number of places in front of it: who finds a place free goes in at once, and
// only who waits stands in the ring. A Pool is for what is held for as long as its holder likes (streams, answers that
// a client does not take): there nobody's turn comes, and a flow may hold no more than it leaves free for others.
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
//   - A flow that holds nothing of a Pool finds half of what is free, however much others want (TestPool).
//
// # Concurrency
//
// A Ring belongs to one goroutine at a time, and has neither clock nor goroutine. The methods of Gates, Flows, Pools
// and Holdings may be called from any goroutine. Their locks are leaves; no goroutine is their own.
package fair
