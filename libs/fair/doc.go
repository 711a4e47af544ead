// Package fair shares turns among flows by weight: a flow is a keyspace, a turn is a group commit, a step of a read, a
// catch-up pass.
//
// Ring is the pure core, deficit round-robin (Shreedhar and Varghese, 1995). Waiting flows form a ring. At each visit a
// flow may take as many quanta more as its weight says, and keeps what it does not take for the next visit. Gate is a
// Ring with a number of places in front of it. A ticket that finds a free place enters at once, so only waiting tickets
// are in the ring. A Pool is for things that a holder may keep for as long as it likes: streams, or answers that a
// client does not read. A Pool has no turns. Instead a flow may hold no more than it leaves free for others.
// for others.
//
// # Invariants
//
//   - While two flows wait all the time, the amounts that they have taken, divided by their weights, differ by at
//     most a quantum plus the largest turn of either (TestShares).
//   - A cheap ticket waits for at most one turn of each other flow per quantum that it costs, however many tickets the
//     other flows have (TestNobodyStarves).
//   - Nobody waits while a place is free (TestGate), or while the gate is open for all (TestOpenGate).
//   - What a flow takes while no other waits does not count later. A flow that was busy alone begins like all others.
//     What a turn costs beyond its ticket (Charge) is owed only until nobody waits.
//   - A flow that holds nothing of a Pool can take half of what is free, however much others want (TestPool).
//
// # Concurrency
//
// A Ring belongs to one goroutine at a time, and has neither clock nor goroutine. The methods of Gates, Flows, Pools
// and Holdings may be called from any goroutine. Nothing is called while their locks are held, and they start no
// goroutines.
package fair
