// Package election elects one leader among candidates through two rows of the store.
//
// # Rows
//
//	<key>b   ballot, holder, its value and TTL, a token   written when the leader changes
//	<key>r   ballot and count                             written by every renewal too
//
// A leader reads <key>b in its transactions (Term.Check): they conflict with a change of leader and with nothing else.
// Renewals write only <key>r.
//
// # Invariants
//
//   - Fencing: a transaction that Check was called in and that commits did so before any later leader's claim. This
//     needs no clock.
//   - At most one candidate's Term.Holds is true at any moment, as long as clocks run at about the same rate: two
//     clocks may differ by a 1/marginDivisor of the time to live over that time.
//   - Ballots only grow. Each claim has a ballot of its own.
//   - While a candidate that is eligible can reach the store, there is a leader: the time from the last one's death
//     to the claim is at most the time to live, a beat, and what the store takes.
//
// # Why two never hold
//
// No two clocks are compared. A leader notes the moment t, on its own monotonic clock, before it begins the transaction
// that claims or renews. If it commits, Holds is true until t + TTL - margin. A challenger notes the moment s after
// it has read the two rows for the first time as they are. It claims when it has seen nothing else until s + TTL, in
// a transaction that reads both rows, finds them as they were, and writes both. Let the leader's last renewal be n,
// begun at t.
//
//   - If the challenger's claim was serialised before n, n has read another <key>b than the leader's and the leader
//     is deposed, or conflicts. It does not count n.
//   - Else the rows that the claim found are those of n, and were read after n had been committed: s is later than t,
//     so the claim comes after t + TTL on any clock of the same rate, when Holds has been false for a margin.
//
// What Holds says can be old by the time it is acted on, by a pause of the process of any length. Writes therefore
// call Check; an answer from memory, such as that a lease has been renewed, must be right even if it leaves late (see
// libs/lease).
//
// # Unknown outcomes
//
// A claim with an unknown outcome is read back: <key>b tells it by its token. A renewal is followed by the next one,
// which reads both rows first and counts the one before, from its beginning, if <key>r shows it and the next one
// fails. What stays unknown, since the store is out of reach, is not counted; if the claim did happen, it lapses like
// the term of a leader that has died.
//
// # Release
//
// When lead returns, Holds becomes false, and then the row is released: it names no holder, and whoever sees that may
// claim it at once.
//
// # What it costs
//
// The candidates of a process may form a Group: at each beat, a fraction of the time to live, one transaction reads
// the rows of all their elections and renews the terms of those that lead. A candidate by itself is a group of one.
// Nobody is woken by the renewals of others: a challenger finds them at its own beats, so that it takes over at most a
// beat later than the time to live after the last renewal. It is woken when <key>b changes, so a released row is
// claimed at once.
//
// # Concurrency
//
// Candidate.Run has one campaign at a time; Term's methods, Candidate.Nudge and Group's methods may be called from any
// goroutine. Beside lead, Group.Run's goroutine renews the term; it never waits for a candidate.
//
// # Testing
//
// The rule "unchanged for TTL on my own clock" (observer) and the end of a term (tenure) are fed with instants and
// have no clock: TestCore drives many of them over a simulated store with clocks of different rates, pauses and lost
// answers. TestBadDays does the same with candidates on an engine with faults inside testing/synctest; TestRounds
// hands the lead around thousands of times. The engine is that of libs/engine/testengine, which may be a
// FoundationDB.
package election
